output "addresses" {
  description = "What robots connect to, by the server's name."
  value = {
    for name, server in aws_instance.server :
    name => var.load_balancer ? aws_lb.quic[0].dns_name : var.public_address ? aws_eip.server[name].public_ip : server.private_ip
  }
}

output "instances" {
  description = "Machines by the server's name: aws ssm start-session --target ID."
  value       = { for name, server in aws_instance.server : name => server.id }
}
