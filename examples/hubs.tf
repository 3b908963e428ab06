# Central DNS for whoever cannot have a sidecar (Lambda, plain EC2, Fargate tasks as they are): what
# hubs.cloudformation.yaml beside this file sets up, for Terraform. Two ecs-discovery in two zones
# behind a network load balancer, and a Route 53 Resolver rule that sends the zone's questions there.
# Sidecars may follow them with --source http://HUB:8053.
#
#   terraform apply -var cluster=prod -var image=123456789012.dkr.ecr.eu-west-1.amazonaws.com/ecs-discovery:1 \
#     -var role=arn:aws:iam::123456789012:role/discovery -var execution_role=arn:aws:iam::123456789012:role/ecsTaskExecutionRole \
#     -var vpc=vpc-1 -var 'subnets=["subnet-1","subnet-2"]' -var 'addresses=["10.0.1.53","10.0.2.53"]'

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

variable "role" {
  type        = string
  description = "ARN of the task role, such as that of daemon.tf."
}

variable "execution_role" {
  type        = string
  description = "ARN of the task execution role, which pulls the image and writes the log."
}

variable "vpc" {
  type = string
}

variable "subnets" {
  type        = list(string)
  description = "Two private subnets in two zones."
}

variable "addresses" {
  type        = list(string)
  description = "A free private address in each of them, for the load balancer."
}

variable "clients" {
  type        = string
  default     = "10.0.0.0/8"
  description = "The network that may ask."
}

variable "zone" {
  type    = string
  default = "ecs.internal"
}

data "aws_ecs_cluster" "this" {
  cluster_name = var.cluster
}

data "aws_region" "this" {}

resource "aws_cloudwatch_log_group" "hub" {
  name_prefix       = "ecs-discovery-"
  retention_in_days = 14
}

resource "aws_security_group" "hub" {
  name_prefix = "ecs-discovery-hub-"
  description = "DNS and HTTP of ecs-discovery"
  vpc_id      = var.vpc

  ingress {
    protocol    = "udp"
    from_port   = 53
    to_port     = 53
    cidr_blocks = [var.clients]
  }

  ingress {
    protocol    = "tcp"
    from_port   = 53
    to_port     = 53
    cidr_blocks = [var.clients]
  }

  ingress {
    protocol    = "tcp"
    from_port   = 8053
    to_port     = 8053
    cidr_blocks = [var.clients]
  }

  egress {
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_ecs_task_definition" "hub" {
  family                   = "ecs-discovery-hub"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = "256"
  memory                   = "512"
  task_role_arn            = var.role
  execution_role_arn       = var.execution_role
  container_definitions = jsonencode([{
    name                   = "discovery"
    image                  = var.image
    essential              = true
    command                = ["ecs-discovery", "serve", "--dns", "0.0.0.0:53", "--http", "0.0.0.0:8053"]
    user                   = "0"
    readonlyRootFilesystem = true
    stopTimeout            = 30
    environment = [
      { name = "ECS_DISCOVERY_CLUSTER", value = var.cluster },
      { name = "ECS_DISCOVERY_ZONE", value = var.zone },
      { name = "ECS_DISCOVERY_DNS_CLIENTS", value = var.clients },
      # Longer than the load balancer takes to notice (two checks of ten seconds).
      { name = "ECS_DISCOVERY_LAME_DUCK", value = "25s" },
    ]
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
        awslogs-group         = aws_cloudwatch_log_group.hub.name
        awslogs-region        = data.aws_region.this.id
        awslogs-stream-prefix = "discovery"
      }
    }
  }])
}

resource "aws_lb" "hub" {
  name_prefix                      = "ecsdns"
  load_balancer_type               = "network"
  internal                         = true
  enable_cross_zone_load_balancing = true

  subnet_mapping {
    subnet_id            = var.subnets[0]
    private_ipv4_address = var.addresses[0]
  }

  subnet_mapping {
    subnet_id            = var.subnets[1]
    private_ipv4_address = var.addresses[1]
  }
}

resource "aws_lb_target_group" "hub" {
  name_prefix = "ecsdns"
  vpc_id      = var.vpc
  target_type = "ip"
  port        = 53
  protocol    = "TCP_UDP"

  # What is in the middle of something has gone elsewhere before the hub's lame-duck time ends.
  deregistration_delay   = 20
  connection_termination = true

  health_check {
    protocol            = "HTTP"
    port                = "8053"
    path                = "/ready"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "hub" {
  load_balancer_arn = aws_lb.hub.arn
  port              = 53
  protocol          = "TCP_UDP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.hub.arn
  }
}

resource "aws_ecs_service" "hub" {
  name                               = "ecs-discovery-hub"
  cluster                            = data.aws_ecs_cluster.this.arn
  launch_type                        = "FARGATE"
  desired_count                      = 2
  task_definition                    = aws_ecs_task_definition.hub.arn
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  depends_on                         = [aws_lb_listener.hub]

  load_balancer {
    container_name   = "discovery"
    container_port   = 53
    target_group_arn = aws_lb_target_group.hub.arn
  }

  network_configuration {
    subnets         = var.subnets
    security_groups = [aws_security_group.hub.id]
  }
}

resource "aws_route53_resolver_endpoint" "outbound" {
  direction          = "OUTBOUND"
  security_group_ids = [aws_security_group.hub.id]

  ip_address {
    subnet_id = var.subnets[0]
  }

  ip_address {
    subnet_id = var.subnets[1]
  }
}

resource "aws_route53_resolver_rule" "zone" {
  rule_type            = "FORWARD"
  domain_name          = var.zone
  resolver_endpoint_id = aws_route53_resolver_endpoint.outbound.id

  target_ip {
    ip = var.addresses[0]
  }

  target_ip {
    ip = var.addresses[1]
  }
}

resource "aws_route53_resolver_rule_association" "vpc" {
  resolver_rule_id = aws_route53_resolver_rule.zone.id
  vpc_id           = var.vpc
}
