variable "region" {
  description = "Region of the image repositories; servers of other regions pull across."
  type        = string
}

variable "github_repository" {
  description = "OWNER/NAME of the repository whose release tags may push images."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository must be OWNER/NAME, without wildcards."
  }
}
