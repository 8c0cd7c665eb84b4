#!/usr/bin/env bash
# Removes what must differ between nodes, and what only the build needed. Runs last.
set -euo pipefail
root=${ROOT:-}

if [ -z "$root" ]; then
  dnf clean all
  rm -rf /var/cache/dnf /var/tmp/* /root/.cache
  # Each node generates its own at first boot.
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
  truncate -s 0 /etc/machine-id
  cloud-init clean --logs
  # The key pair and the traces of the build.
  rm -f /home/*/.ssh/authorized_keys /root/.ssh/authorized_keys /home/*/.bash_history /root/.bash_history
  find /var/log -type f -name '*.log' -exec truncate -s 0 {} +
  journalctl --rotate --quiet
  journalctl --vacuum-time=1s --quiet
  sync
fi
echo "Nothing of this build is left in the image."
