"""The target for AWS Step Functions, whose steps are tasks of Amazon ECS on Fargate."""
