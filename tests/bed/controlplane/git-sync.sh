#!/bin/sh
# Replaces git-sync v4 where it cannot be built. It fetches GITSYNC_REF of GITSYNC_REPO to GITSYNC_ROOT and atomically
# points the link to the checkout, with the same validation as git-sync. Settings are environment variables; variables
# that are not used here are ignored, as git-sync ignores unknown ones.
set -eu

# Logs one line of JSON in git-sync's format.
quoted() { printf '%s' "$1" | tr '\t\n\r' '   ' | sed 's/[\\"]/\\&/g'; }
say() { # message, error, more members
  printf '{"logger":"","msg":"%s"%s%s}\n' "$(quoted "$1")" "${2:+,\"error\":\"$(quoted "$2")\"}" "${3:+,$3}" >&2
}
refuse() {
  echo "$*" >&2
  exit 1
}
is_number() { printf '%s' "$1" | grep -Eqx -- '-?[0-9]+'; }
truth() { # variable, default
  eval "set -- \"\$1\" \"\${$1-$2}\""
  case $2 in
    1 | t | T | true | TRUE | True) echo true ;;
    0 | f | F | false | FALSE | False) echo false ;;
    *) refuse "FATAL: invalid bool env $1=\"$2\"" ;;
  esac
}
number() { # variable, default
  eval "set -- \"\$1\" \"\${$1-$2}\""
  is_number "$2" || refuse "FATAL: invalid int env $1=\"$2\""
  echo "$2"
}

if [ $# != 0 ]; then
  echo "unknown flag: $1" >&2
  exit 2
fi
depth=$(number GITSYNC_DEPTH 1)
most=$(number GITSYNC_MAX_FAILURES 0)
one_time=$(truth GITSYNC_ONE_TIME false)
add_user=$(truth GITSYNC_ADD_USER false)
check_hosts=$(truth GITSYNC_SSH_KNOWN_HOSTS true)
repo=${GITSYNC_REPO:-}
root=${GITSYNC_ROOT:-}
ref=${GITSYNC_REF-HEAD}
submodules=${GITSYNC_SUBMODULES-recursive}
period=${GITSYNC_PERIOD-10s}
username=${GITSYNC_USERNAME:-}
password=${GITSYNC_PASSWORD:-}
password_file=${GITSYNC_PASSWORD_FILE:-}
[ -n "$root" ] || refuse "required flag: --root must be specified"
[ -n "$repo" ] || refuse "required flag: --repo must be specified"
[ -n "$ref" ] || refuse "required flag: --ref must be specified"
[ "$depth" -ge 0 ] || refuse "invalid flag: --depth must be greater than or equal to 0"
case $submodules in recursive | shallow | off) ;; *) refuse "invalid flag: --submodules is \"$submodules\"" ;; esac
printf '%s' "$period" | grep -Eqx '[0-9]+[smh]' || refuse "FATAL: invalid duration env GITSYNC_PERIOD=\"$period\""
if [ -n "$username" ]; then
  [ -n "$password$password_file" ] ||
    refuse "required flag: \$GITSYNC_PASSWORD or --password-file must be specified when --username is specified"
  [ -z "$password" ] || [ -z "$password_file" ] ||
    refuse "invalid flag: only one of \$GITSYNC_PASSWORD and --password-file may be specified"
  case $repo in
    *://*@*) refuse "invalid flag: credentials may not be specified in --repo when --username is specified" ;;
  esac
else
  [ -z "$password" ] || refuse "invalid flag: \$GITSYNC_PASSWORD may only be specified when --username is specified"
  [ -z "$password_file" ] || refuse "invalid flag: --password-file may only be specified when --username is specified"
fi
leaf=${repo%/}
link=${GITSYNC_LINK:-${leaf##*/}}
case $link in /*) ;; *) link=$root/$link ;; esac

umask 022
mkdir -p "$root"
root=$(realpath "$root")
if [ "$add_user" = true ] && ! getent passwd "$(id -u)" >/dev/null; then
  echo "git-sync:x:$(id -u):$(id -g)::${HOME:-$PWD}:/sbin/nologin" >>/etc/passwd
fi
GIT_CONFIG_GLOBAL=$(mktemp)
export GIT_CONFIG_GLOBAL GIT_CONFIG_NOSYSTEM=true
git config --global core.askPass true
git config --global safe.directory '*'
# Git gets the password from its credential cache daemon, and only for the host of the repository.
git config --global credential.helper 'cache --timeout 3600'
ssh=${GIT_SSH_COMMAND:-ssh}
IFS=:
for key in ${GITSYNC_SSH_KEY_FILE-/etc/git-secret/ssh}; do ssh="$ssh -i $key"; done
unset IFS
if [ "$check_hosts" = true ]; then
  ssh="$ssh -o StrictHostKeyChecking=yes"
  ssh="$ssh -o UserKnownHostsFile=${GITSYNC_SSH_KNOWN_HOSTS_FILE-/etc/git-secret/known_hosts}"
else
  ssh="$ssh -o StrictHostKeyChecking=no"
fi
export GIT_SSH_COMMAND="$ssh"

# Runs git in a directory. On failure, it writes the message to the file, with git-sync's escapes.
failure=$(mktemp)
run() { # directory, arguments
  folder=$1
  shift
  git -C "$folder" "$@" >/dev/null 2>"$failure.said" && return
  said=$(sed 's/"/\\"/g' "$failure.said" | awk '{ printf "%s%s", between, $0; between = "\\n" }')
  printf 'Run(git %s): exit status: { stdout: "", stderr: "%s" }' "$*" "$said" >"$failure"
  return 1
}

credentials() {
  [ -n "$username" ] || return 0
  [ -z "$password_file" ] || password=$(cat "$password_file") || return 1
  printf 'url=%s\nusername=%s\npassword=%s\n' "$repo" "$username" "$password" | git credential approve
}

# `set -e` has no effect in this function, because it is called as a condition.
sync() {
  credentials || return 1
  if [ "$(git -C "$root" rev-parse --show-toplevel 2>/dev/null)" != "$root" ]; then
    find "$root" -mindepth 1 -delete || return 1
    run "$root" init -b git-sync || return 1
  fi
  git -C "$root" remote remove origin 2>/dev/null || true
  run "$root" remote add origin "$repo" || return 1
  if [ "$depth" != 0 ]; then
    set -- --depth "$depth"
  elif [ "$(git -C "$root" rev-parse --is-shallow-repository)" = true ]; then
    set -- --unshallow
  else
    set --
  fi
  run "$root" fetch "$repo" "$ref" --verbose --no-progress --prune --no-auto-gc "$@" || return 1
  hash=$(git -C "$root" rev-parse 'FETCH_HEAD^{}') || return 1
  [ "$(basename "$(readlink "$link" || true)")" != "$hash" ] || return 0
  tree=$root/.worktrees/$hash
  rm -rf "$tree"
  run "$root" worktree prune || return 1
  run "$root" worktree add --force --detach --no-checkout "$tree" "$hash" || return 1
  # The path is relative, because another container may mount the volume elsewhere.
  echo "gitdir: ../../.git/worktrees/$hash" >"$tree/.git"
  run "$tree" reset --hard "$hash" -- || return 1
  if [ "$submodules" != off ]; then
    set --
    [ "$submodules" != recursive ] || set -- --recursive
    [ "$depth" = 0 ] || set -- "$@" --depth "$depth"
    run "$tree" submodule update --init "$@" || return 1
  fi
  mkdir -p "$(dirname "$link")"
  ln -sfn "$(realpath --relative-to "$(dirname "$link")" "$tree")" "$(dirname "$link")/tmp-link"
  mv -T "$(dirname "$link")/tmp-link" "$link" || return 1
  say "updated successfully" "" "\"ref\":\"$ref\",\"remote\":\"$hash\""
}

failures=0
while :; do
  : >"$failure"
  if sync; then
    failures=0
    [ "$one_time" != true ] || exit 0
    # A commit never changes, so there is nothing to fetch again.
    [ "$hash" != "$ref" ] || exec sleep infinity
  else
    failures=$((failures + 1))
    error=$(cat "$failure")
    if [ "$most" -ge 0 ] && [ "$failures" -ge "$most" ]; then
      say "too many failures, aborting" "${error:-git failed}" "\"failCount\":$failures,\"maxFailures\":$most"
      exit 1
    fi
    say "error syncing repo, will retry" "${error:-git failed}" "\"failCount\":$failures"
  fi
  sleep "$period"
done
