# One ecs-discovery on each EC2 instance of a cluster, its role and its policy: what
# daemon.cloudformation.yaml beside this file sets up, for Terraform.
#   terraform apply -var cluster=prod -var image=123456789012.dkr.ecr.eu-west-1.amazonaws.com/ecs-discovery:1

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "cluster" {
  type        = string
  description = "The cluster to run in and to read, by name."
}

variable "image" {
  type        = string
  description = "The image, built from the Dockerfile beside this file."
}

data "aws_ecs_cluster" "this" {
  cluster_name = var.cluster
}

data "aws_region" "this" {}

resource "aws_cloudwatch_log_group" "discovery" {
  name_prefix       = "ecs-discovery-"
  retention_in_days = 14
}

resource "aws_iam_role" "discovery" {
  name_prefix = "ecs-discovery-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

data "aws_iam_policy_document" "read" {
  statement {
    sid = "ReadClusters"
    actions = [
      "ecs:ListTasks",
      "ecs:DescribeTasks",
      "ecs:ListServices",
      "ecs:DescribeServices",
      "ecs:ListServiceDeployments",
      "ecs:DescribeServiceDeployments",
      "ecs:DescribeServiceRevisions",
      "ecs:DescribeContainerInstances",
    ]
    resources = ["*"]
    condition {
      test     = "ArnLike"
      variable = "ecs:cluster"
      values   = [data.aws_ecs_cluster.this.arn]
    }
  }
  statement {
    sid = "ActionsWithoutClusters"
    actions = [
      "ecs:DescribeTaskDefinition",
      "ecs:DescribeClusters",
      "ec2:DescribeInstances",
      "elasticloadbalancing:DescribeTargetHealth",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "read" {
  name   = "read"
  role   = aws_iam_role.discovery.id
  policy = data.aws_iam_policy_document.read.json
}

resource "aws_ecs_task_definition" "discovery" {
  family                   = "ecs-discovery"
  network_mode             = "host"
  requires_compatibilities = ["EC2"]
  task_role_arn            = aws_iam_role.discovery.arn
  container_definitions = jsonencode([{
    name                   = "discovery"
    image                  = var.image
    essential              = true
    command                = ["ecs-discovery", "serve"]
    user                   = "0"
    readonlyRootFilesystem = true
    memoryReservation      = 128
    stopTimeout            = 10
    portMappings = [
      { name = "dns", containerPort = 53, protocol = "udp" },
      { name = "dns-tcp", containerPort = 53, protocol = "tcp" },
      { name = "http", containerPort = 8053, protocol = "tcp" },
    ]
    healthCheck = {
      command     = ["CMD", "ecs-discovery", "health"]
      interval    = 10
      timeout     = 3
      retries     = 3
      startPeriod = 10
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.discovery.name
        awslogs-region        = data.aws_region.this.id
        awslogs-stream-prefix = "discovery"
      }
    }
  }])
}

resource "aws_ecs_service" "discovery" {
  name                               = "ecs-discovery"
  cluster                            = data.aws_ecs_cluster.this.arn
  task_definition                    = aws_ecs_task_definition.discovery.arn
  scheduling_strategy                = "DAEMON"
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
}
