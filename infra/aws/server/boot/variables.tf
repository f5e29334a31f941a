variable "image" {
  description = "The server's image with its tag or digest, such as 1.dkr.ecr.eu-west-1.amazonaws.com/openpi-flash-server:0.1.0."
  type        = string

  validation {
    condition     = can(regex("(:|@sha256:)[A-Za-z0-9._-]+$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must name a version or a digest, and not latest: a restart would change what runs."
  }
}

variable "region" {
  description = "Region of the machine, its parameters and its logs."
  type        = string
}

variable "model_config_name" {
  description = "The named config of docs/robots.md, such as pi05_droid."
  type        = string
  default     = "pi05_aloha"
}

variable "checkpoint_dir" {
  description = "URL of the action checkpoint (gs://, hf://, https://); null makes ALOHA's from lerobot/pi05_base and openpi's statistics."
  type        = string
  default     = null
}

variable "planner_checkpoint_dir" {
  description = "URL of the planner's checkpoint; null without a planner."
  type        = string
  default     = null
}

variable "prepare_planner_checkpoint" {
  description = "Make the planner's checkpoint before the first start, and serve it."
  type        = bool
  default     = false
}

variable "default_prompt" {
  description = "The task for a request that names none."
  type        = string
  default     = null
}

variable "api_keys_parameter" {
  description = "SSM parameter (SecureString) with the API keys of the robots, one a line."
  type        = string
}

variable "certificate_parameter" {
  description = "SSM parameter with the server's certificate chain, PEM; null keeps a certificate of its own on the machine."
  type        = string
  default     = null
}

variable "certificate_key_parameter" {
  description = "SSM parameter (SecureString) with the certificate's private key, PEM."
  type        = string
  default     = null
}

variable "has_certificate" {
  description = "Whether both parameters of the certificate are set."
  type        = bool
  default     = false
}

variable "server_id" {
  description = "What a load balancer routes by, 0x and 16 lowercase hexadecimal digits; null without one."
  type        = string
  default     = null
}

variable "log_group" {
  description = "CloudWatch log group; null logs to the machine's journal."
  type        = string
  default     = null
}
