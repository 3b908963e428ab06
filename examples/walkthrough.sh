#!/bin/sh
# From an empty cluster to curl, with the AWS CLI and ecs-discovery against a local ECS.
#
# Every `aws` line is what you would type against a real account; the endpoint is the only difference.
# Needs the AWS CLI 1.29 or 2.13, or newer, for AWS_ENDPOINT_URL: pip install awscli
# Set LISTEN to have the local ECS somewhere else than on 127.0.0.1:8054.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
listen=${LISTEN:-127.0.0.1:8054}

need() {
    command -v "$1" >/dev/null 2>&1 || { printf '%s is missing: %s\n' "$1" "$2" >&2; exit 2; }
}
need ecs-discovery "run sh .ci/setup sidecar, or pip install '.[sidecar]' in this checkout"
need aws "pip install awscli"
need curl "apt-get install curl, or what your system has instead"
need python3 "install Python 3.11 or newer"

step() { printf '\n### %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

step "Start a local ECS"
log=$(mktemp)
ecs-discovery local --listen "$listen" >"$log" 2>&1 &
local_ecs=$!
trap 'kill "$local_ecs" 2>/dev/null; wait "$local_ecs" 2>/dev/null || true; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
# What would lead elsewhere: profiles, endpoints of one service, proxies.
unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_ROLE_ARN AWS_ENDPOINT_URL_ECS AWS_IGNORE_CONFIGURED_ENDPOINT_URLS
unset http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY
export AWS_ENDPOINT_URL="http://$listen" AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_PAGER= ECS_DISCOVERY_CLUSTER=walkthrough
tries=0
# Not the API's answer but our server's own word: the demo, or another local ECS, may answer at this address.
until grep -q '^export AWS_ENDPOINT_URL=' "$log"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 100 ] || ! kill -0 "$local_ecs" 2>/dev/null; then
        cat "$log" >&2
        printf 'choose another address with LISTEN=127.0.0.1:8055 sh %s\n' "$0" >&2
        exit 1
    fi
    sleep 0.3
done

step "Create a cluster"
run aws ecs create-cluster --cluster-name walkthrough --query cluster.clusterArn --output text

step "Add two container instances (on EC2 the agent does this)"
for host in 2 3; do
    run aws ecs register-container-instance --cluster walkthrough \
        --instance-identity-document "{\"instanceId\": \"i-000000000000000a$host\", \"privateIp\": \"127.0.0.$host\", \"availabilityZone\": \"us-east-1a\", \"region\": \"us-east-1\"}" \
        --query containerInstance.containerInstanceArn --output text
done

step "List and describe the container instances"
instances=$(aws ecs list-container-instances --cluster walkthrough --query 'containerInstanceArns[]' --output text)
printf '%s\n' "$instances"
# shellcheck disable=SC2086 # one argument an ARN is meant
run aws ecs describe-container-instances --cluster walkthrough --container-instances $instances \
    --query 'containerInstances[].[ec2InstanceId, status, agentConnected]' --output text

step "Register an nginx task definition that maps container port 80 to a port chosen at run time"
run aws ecs register-task-definition --family nginx --network-mode bridge \
    --container-definitions '[{"name": "nginx", "image": "nginx:alpine", "memory": 64, "portMappings": [{"name": "http", "containerPort": 80, "hostPort": 0}]}]' \
    --query taskDefinition.taskDefinitionArn --output text

step "Run it with RunTask, and with StartTask on an instance of our choice"
first=$(aws ecs run-task --cluster walkthrough --task-definition nginx --query 'tasks[0].taskArn' --output text)
second=$(aws ecs start-task --cluster walkthrough --task-definition nginx \
    --container-instances "${instances%%[[:space:]]*}" --query 'tasks[0].taskArn' --output text)
run aws ecs wait tasks-running --cluster walkthrough --tasks "$first" "$second"
run aws ecs describe-tasks --cluster walkthrough --tasks "$first" "$second" \
    --query 'tasks[].[lastStatus, containers[0].networkBindings[0].hostPort]' --output text

step "Make a service of two tasks"
run aws ecs create-service --cluster walkthrough --service-name web --task-definition nginx --desired-count 2 \
    --query service.serviceArn --output text
run aws ecs wait services-stable --cluster walkthrough --services web

step "Find the standalone tasks by their family, and the service by its name"
run ecs-discovery ls
run ecs-discovery resolve nginx
run ecs-discovery resolve web
run ecs-discovery explain web

step "Call the endpoint that ecs-discovery names"
for name in nginx web; do
    url=$(ecs-discovery resolve "$name" --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["endpoints"][0]["url"])')
    run curl --silent --show-error --fail "$url/"
    printf '\n'
done

step "Stop a task: it is out as soon as its desired status says so"
run aws ecs stop-task --cluster walkthrough --task "$first" --query 'task.desiredStatus' --output text
run ecs-discovery resolve nginx

step "Done"
