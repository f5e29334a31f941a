# A Network Load Balancer that passes QUIC on by the server id in its connection ids, so that a
# robot keeps its server when its address changes. TLS stays between robot and server.

resource "aws_security_group" "load_balancer" {
  count       = var.load_balancer ? 1 : 0
  name        = "${var.name}-load-balancer"
  description = "openpi-flash: robots only"
  vpc_id      = data.aws_subnet.server.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer" {
  for_each          = var.load_balancer ? toset(var.robot_addresses) : []
  security_group_id = aws_security_group.load_balancer[0].id
  description       = "robots"
  ip_protocol       = "udp"
  from_port         = 5555
  to_port           = 5555
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  for_each                     = var.load_balancer ? { udp = 5555, tcp = 8000 } : {}
  security_group_id            = aws_security_group.load_balancer[0].id
  referenced_security_group_id = aws_security_group.server.id
  description                  = "servers"
  ip_protocol                  = each.key
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_lb" "quic" {
  count                            = var.load_balancer ? 1 : 0
  name                             = var.name
  load_balancer_type               = "network"
  internal                         = !var.public_address
  subnets                          = [var.subnet_id]
  security_groups                  = [aws_security_group.load_balancer[0].id]
  enable_cross_zone_load_balancing = true
}

resource "aws_lb_target_group" "quic" {
  count       = var.load_balancer ? 1 : 0
  name        = "${var.name}-quic"
  port        = 5555
  protocol    = "QUIC"
  target_type = "instance"
  vpc_id      = data.aws_subnet.server.vpc_id
  # longer than the server drains
  deregistration_delay = 30

  health_check {
    protocol            = "HTTP"
    port                = "8000"
    path                = "/healthz"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_target_group_attachment" "quic" {
  for_each         = var.load_balancer ? local.servers : {}
  target_group_arn = aws_lb_target_group.quic[0].arn
  target_id        = aws_instance.server[each.key].id
  port             = 5555
  quic_server_id   = each.value
}

resource "aws_lb_listener" "quic" {
  count             = var.load_balancer ? 1 : 0
  load_balancer_arn = aws_lb.quic[0].arn
  port              = 5555
  protocol          = "QUIC"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.quic[0].arn
  }
}
