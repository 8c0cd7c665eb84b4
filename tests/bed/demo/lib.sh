# The common part of both demos: one temporary directory with an emulated AWS and a Git remote that requires a password.
# This file is sourced; OPSY and PYTHON are the two programs.
bed=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source=$(cd "$bed/../.." && pwd)
work=$(mktemp -d)
pids=()
finish() {
  status=$?
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
  [ $status = 0 ] || echo "The demo failed." >&2
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

bold() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi; }
field() { "$PYTHON" -c 'import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }
start() { # port-file command...
  local file=$1
  shift
  "$@" --port 0 --port-file "$file" --die-with-parent >"$file.log" 2>&1 &
  pids+=($!)
  local deadline=$((SECONDS + 60))
  until [ -e "$file" ]; do
    if ! kill -0 "${pids[-1]}" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      cat "$file.log" >&2
      exit 1
    fi
    sleep 0.1
  done
}
git() { command git -c user.name='Platform Team' -c user.email=platform@example.com -c advice.detachedHead=false "$@"; }

account=123456789012
bed_call() { # method path [body]
  "$PYTHON" - "$aws/_bed/$2" "$1" "${3-}" <<'PY'
import sys, urllib.request
url, method, body = sys.argv[1:]
request = urllib.request.Request(url, data=body.encode() or None, method=method)
print(urllib.request.urlopen(request).read().decode())
PY
}
show_chat() { (cd "$bed/chat" && "$PYTHON" -m chatbed.show --port "$(field "$work/chat.json" port)" --place C0DEMO0001); }
show() { (cd "$bed/aws" && "$PYTHON" -m opsybed.show --port "$(field "$work/aws.json" port)" --account "$account"); }

# Restricts a user's key to these policies in deploy/iam.
restrict() { # user key policy...
  local user=$1 key=$2 files
  shift 2
  files=$(printf '"%s.json", ' "$@")
  bed_call POST policy "{\"user\": \"$user\", \"access_key\": \"$key\", \"files\": [${files%, }],
    \"values\": {\"VPC\": \"$(field "$work/seed.json" vpc)\"}}" >/dev/null
}
start_aws_and_git() {
  cd "$bed/aws"
  start "$work/aws.json" "$PYTHON" -m opsybed --ssh --clock-speed 20
  cd "$work"
  printf 'platform:demo-password\n' >"$work/credentials"
  start "$work/git.json" "$PYTHON" "$bed/git/gitbed.py" --root "$work/remotes" --credentials "$work/credentials"
  cd "$bed/chat"
  start "$work/chat.json" "$PYTHON" -m chatbed
  cd "$work"
  chat=$(field chat.json url)
  aws=$(field aws.json endpoint)
  remote=$(field git.json url)/images.git
  bed_call POST seed '{"region": "us-east-1", "cluster": "demo"}' >"$work/seed.json"
  # Debian's Packer requires the optional ones.
  restrict agent AKIA${account}DEMO agent optional/agent-packer-1.6
  restrict packer AKIA${account}PACK build optional/build-packer-1.6
  git init -q --bare -b main "$work/remotes/images.git"
  export AWS_ENDPOINT_URL=$aws AWS_ACCESS_KEY_ID=AKIA${account}DEMO AWS_SECRET_ACCESS_KEY=emulated
  # Packer has its own key; on a real machine, it would have its own profile.
  export OPSY_BUILD_AWS_ACCESS_KEY_ID=AKIA${account}PACK OPSY_BUILD_AWS_SECRET_ACCESS_KEY=emulated
  export AWS_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
  export AWS_CONFIG_FILE=$work/no-aws-config AWS_SHARED_CREDENTIALS_FILE=$work/no-aws-credentials
  # The template is written for real AWS; only these variables point it to the emulated one.
  export PKR_VAR_endpoint=$aws PKR_VAR_ssh_host=127.0.0.1
  export PKR_VAR_ssh_port=$(field aws.json ssh_port) PKR_VAR_ssh_username=$(field aws.json ssh_user)
  printf 'demo-password' >"$work/password"
  export OPSY_REPO=$remote OPSY_GIT_USERNAME=platform OPSY_GIT_PASSWORD_FILE=$work/password
  export OPSY_STATE=$work/state OPSY_OUTPUT=text
  # The bot token, as the Secret opsy-slack that the manifests reference, and the address of the emulated Slack.
  export OPSY_SECRET_DEFAULT_OPSY_SLACK__TOKEN=xoxb-demo OPSY_SLACK_API=$chat/api/
}
