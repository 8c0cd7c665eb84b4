#!/bin/sh
# What an init container of Opsy uses of git-sync v4's contract: fetch GITSYNC_REF of GITSYNC_REPO
# below GITSYNC_ROOT and point the link at the checkout in one step. Settings come by environment.
set -eu
say() { echo "git-sync: $*" >&2; }
repo=${GITSYNC_REPO:?}
root=${GITSYNC_ROOT:?}
ref=${GITSYNC_REF:-HEAD}
depth=${GITSYNC_DEPTH:-1}
leaf=${repo##*/}
link=${GITSYNC_LINK:-${leaf%.git}}
case $link in /*) ;; *) link=$root/$link ;; esac
if [ -n "${GITSYNC_PASSWORD_FILE:-}" ]; then
  GITSYNC_PASSWORD=$(cat "$GITSYNC_PASSWORD_FILE")
fi
export GITSYNC_USERNAME="${GITSYNC_USERNAME:-}" GITSYNC_PASSWORD="${GITSYNC_PASSWORD:-}"
# The password reaches git through its credential protocol only.
export GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_CONFIG_KEY_1=credential.helper
export GIT_CONFIG_VALUE_1='!printf "username=%s\npassword=%s\n" "$GITSYNC_USERNAME" "$GITSYNC_PASSWORD"; :'
[ -n "$GITSYNC_PASSWORD" ] || export GIT_CONFIG_COUNT=1

# Called where a failing command ends nothing by itself.
sync() {
  [ -d "$root/.git" ] || git init --quiet "$root"
  if [ "$depth" = 0 ]; then set --; else set -- --depth "$depth"; fi
  git -C "$root" fetch --quiet --no-tags "$@" "$repo" "$ref" || return 1
  hash=$(git -C "$root" rev-parse --verify --quiet 'FETCH_HEAD^{commit}') || return 1
  [ "$(basename "$(readlink "$link" || true)")" = "$hash" ] && return
  tree=$root/.worktrees/$hash
  [ -d "$tree" ] || git -C "$root" worktree add --quiet --detach "$tree" "$hash" || return 1
  mkdir -p "$(dirname "$link")"
  ln -sfn "$tree" "$link.next"
  mv -T "$link.next" "$link"
  say "updated to $hash"
}

mkdir -p "$root"
while :; do
  sync || { say "cannot fetch $ref of $repo"; exit 1; }
  [ "${GITSYNC_ONE_TIME:-false}" = true ] && exit 0
  # A commit does not change.
  if echo "$ref" | grep -Eqx '[0-9a-f]{40}'; then exec sleep infinity; fi
  sleep "$(echo "${GITSYNC_PERIOD:-10s}" | tr -d s)"
done
