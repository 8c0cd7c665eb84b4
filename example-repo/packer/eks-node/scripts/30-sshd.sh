#!/usr/bin/env bash
# sshd: keys only, no root, no forwarding. People should use Session Manager instead of SSH.
set -euo pipefail
root=${ROOT:-}

install -d -m 0755 "$root/etc/ssh/sshd_config.d"
cat >"$root/etc/ssh/sshd_config.d/10-hardening.conf" <<'CONF'
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitEmptyPasswords no
AllowAgentForwarding no
AllowTcpForwarding no
X11Forwarding no
MaxAuthTries 4
LoginGraceTime 30
ClientAliveInterval 300
ClientAliveCountMax 2
CONF
chmod 0600 "$root/etc/ssh/sshd_config.d/10-hardening.conf"

if [ -z "$root" ]; then
  # A configuration that sshd refuses would lock everyone out: fail the build instead.
  sshd -t
fi
echo "sshd takes keys only."
