# What Terraform would make, planned with a provider that is made up: `scripts/test-infra`.

mock_provider "aws" {}

variables {
  region            = "eu-west-1"
  github_repository = "me/openpi-flash"
}

run "images_are_kept_under_tags_that_do_not_move" {
  command = plan

  assert {
    condition     = alltrue([for image in aws_ecr_repository.image : image.image_tag_mutability == "IMMUTABLE" && image.image_scanning_configuration[0].scan_on_push])
    error_message = "a tag can be moved, or an image is not scanned"
  }
}

run "tags_of_releases_alone_may_push" {
  command = plan

  assert {
    condition = anytrue([
      for condition in data.aws_iam_policy_document.github_may_assume.statement[0].condition :
      condition.variable == "token.actions.githubusercontent.com:sub" && toset(condition.values) == toset(["repo:me/openpi-flash:ref:refs/tags/v*"])
    ])
    error_message = "another workflow than that of a release may push images"
  }
}

run "one_repository_is_named" {
  command = plan
  variables {
    github_repository = "me/*"
  }
  expect_failures = [var.github_repository]
}
