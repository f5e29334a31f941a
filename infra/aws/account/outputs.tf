output "repositories" {
  description = "Where images are pushed to and pulled from."
  value       = { for name, repository in aws_ecr_repository.image : name => repository.repository_url }
}

output "push_role" {
  description = "What the workflow names as role-to-assume."
  value       = aws_iam_role.push.arn
}
