# A queue with the events of one ECS cluster, for one ecs-discovery and nobody else: a queue that
# two receive from gives each of them a part of the messages. In the cluster's region and account.
#
#   terraform apply -var cluster_arn=arn:aws:ecs:eu-west-1:123456789012:cluster/prod
#   ecs-discovery serve --cluster prod --events QUEUE    # the output queue_url
#
# The sidecar's role also needs what `ecs-discovery taskdef policy --events QUEUE` prints.

variable "cluster_arn" {
  description = "ARN of the ECS cluster"
  type        = string
}

locals {
  services = "${replace(var.cluster_arn, ":cluster/", ":service/")}/"
}

resource "aws_sqs_queue" "events" {
  name_prefix                = "ecs-discovery-events-"
  message_retention_seconds  = 300 # older events tell nothing that a sweep has not found by then
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 30
  sqs_managed_sse_enabled    = true
}

resource "aws_cloudwatch_event_rule" "changes" {
  name_prefix = "ecs-discovery-changes-"
  description = "What changes in the cluster, for ecs-discovery"
  event_pattern = jsonencode({
    source = ["aws.ecs"]
    "detail-type" = [
      "ECS Task State Change",
      "ECS Container Instance State Change",
      "ECS Service Action",
    ]
    detail = { clusterArn = [var.cluster_arn] }
  })
}

resource "aws_cloudwatch_event_rule" "deployments" {
  name_prefix = "ecs-discovery-deployments-"
  description = "Deployments, whose events name the cluster in the service's ARN only"
  event_pattern = jsonencode({
    source        = ["aws.ecs"]
    "detail-type" = ["ECS Deployment State Change"]
    resources     = [{ prefix = local.services }]
  })
}

resource "aws_cloudwatch_event_target" "changes" {
  rule = aws_cloudwatch_event_rule.changes.name
  arn  = aws_sqs_queue.events.arn
}

resource "aws_cloudwatch_event_target" "deployments" {
  rule = aws_cloudwatch_event_rule.deployments.name
  arn  = aws_sqs_queue.events.arn
}

data "aws_iam_policy_document" "rules_send" {
  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.events.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values = [
        aws_cloudwatch_event_rule.changes.arn,
        aws_cloudwatch_event_rule.deployments.arn,
      ]
    }
  }
}

resource "aws_sqs_queue_policy" "events" {
  queue_url = aws_sqs_queue.events.url
  policy    = data.aws_iam_policy_document.rules_send.json
}

output "queue_url" {
  description = "For --events"
  value       = aws_sqs_queue.events.url
}
