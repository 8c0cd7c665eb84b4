#!/usr/bin/env bash
# Logs: a journal that survives a reboot and cannot fill the disk, and audit rules for sensitive files and calls.
set -euo pipefail
root=${ROOT:-}

install -d -m 0755 "$root/etc/systemd/journald.conf.d"
cat >"$root/etc/systemd/journald.conf.d/90-hardening.conf" <<'CONF'
[Journal]
Storage=persistent
Compress=yes
SystemMaxUse=1G
SystemKeepFree=2G
CONF

install -d -m 0750 "$root/etc/audit/rules.d"
cat >"$root/etc/audit/rules.d/90-hardening.rules" <<'RULES'
-w /etc/passwd -p wa -k identity
-w /etc/group -p wa -k identity
-w /etc/shadow -p wa -k identity
-w /etc/sudoers -p wa -k privileges
-w /etc/sudoers.d/ -p wa -k privileges
-w /etc/ssh/sshd_config -p wa -k sshd
-w /etc/ssh/sshd_config.d/ -p wa -k sshd
-w /etc/kubernetes/ -p wa -k kubernetes
-w /etc/containerd/ -p wa -k kubernetes
-a always,exit -F arch=b64 -S init_module,finit_module,delete_module -k modules
-a always,exit -F arch=b64 -S adjtimex,settimeofday,clock_settime -k time
RULES
chmod 0640 "$root/etc/audit/rules.d/90-hardening.rules"

if [ -z "$root" ]; then
  augenrules --check || augenrules --load
  systemctl enable auditd.service
fi
echo "Journal and audit rules are in place."
