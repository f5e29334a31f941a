# What a server's machine does at its first start, as cloud-init reads it. No provider: it is rendered and tested anywhere.

terraform {
  required_version = ">= 1.9"
}

locals {
  checkpoint = "/data/models/action"
  planner    = "/data/models/planner"
  # a URL is downloaded by the server itself; what `prepare` makes is in the volume
  config = merge(
    {
      action = merge(
        { model_config_name = var.model_config_name, checkpoint_dir = coalesce(var.checkpoint_dir, local.checkpoint) },
        var.default_prompt == null ? {} : { default_prompt = var.default_prompt },
      )
      action_transport = var.server_id == null ? {} : { quic_server_id = var.server_id }
      api_key_file     = "/run/secrets/api_keys"
      log_format       = "json"
    },
    var.has_certificate ? { tls_certificate = "/run/secrets/certificate.pem", tls_key = "/run/secrets/key.pem" } : {},
    local.has_planner ? { planner = { checkpoint_dir = var.prepare_planner_checkpoint ? local.planner : var.planner_checkpoint_dir, schedule = "background" } } : {},
  )
  has_planner = var.prepare_planner_checkpoint || var.planner_checkpoint_dir != null
  # the commands of openpi-flash that come before the server, in order
  prepare = concat(
    var.checkpoint_dir == null ? ["prepare-checkpoint --output-dir ${local.checkpoint}"] : [],
    var.prepare_planner_checkpoint ? ["prepare-planner-checkpoint --output-dir ${local.planner}"] : [],
  )
  options = join(" ", [
    "--rm --network host --gpus all --read-only --tmpfs /tmp",
    "--cap-drop ALL --security-opt no-new-privileges",
    "--volume openpi-flash-data:/data --volume openpi-flash-state:/state",
    "--volume /run/openpi-flash:/run/secrets:ro",
    "--volume /etc/openpi-flash/config.json:/etc/openpi-flash/config.json:ro",
    var.log_group == null ? "--log-driver journald" : "--log-driver awslogs --log-opt awslogs-group=${var.log_group} --log-opt awslogs-region=${var.region}",
  ])
  user_data = templatefile("${path.module}/cloud-init.yml.tftpl", {
    config   = jsonencode(local.config)
    image    = var.image
    options  = local.options
    prepare  = local.prepare
    region   = var.region
    registry = split("/", var.image)[0]
    secrets = merge(
      { "api_keys" = var.api_keys_parameter },
      var.has_certificate ? { "certificate.pem" = var.certificate_parameter, "key.pem" = var.certificate_key_parameter } : {},
    )
  })
}

output "user_data" {
  description = "The machine's cloud-init."
  value       = local.user_data
}

output "config" {
  description = "The server's configuration, JSON."
  value       = jsonencode(local.config)
}
