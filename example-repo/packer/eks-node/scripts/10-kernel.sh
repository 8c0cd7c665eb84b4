#!/usr/bin/env bash
# Kernel settings. ROOT is empty on a real machine; otherwise files are written below it and nothing is applied.
set -euo pipefail
root=${ROOT:-}

install -d -m 0755 "$root/etc/sysctl.d"
cat >"$root/etc/sysctl.d/90-hardening.conf" <<'CONF'
# Required by kubelet with protectKernelDefaults.
vm.overcommit_memory = 1
vm.panic_on_oom = 0
kernel.panic = 10
kernel.panic_on_oops = 1
kernel.keys.root_maxbytes = 25000000
kernel.keys.root_maxkeys = 1000000

# Restricts access to the kernel and to other processes.
kernel.dmesg_restrict = 1
kernel.kptr_restrict = 2
kernel.yama.ptrace_scope = 1
kernel.unprivileged_bpf_disabled = 1
net.core.bpf_jit_harden = 2
fs.suid_dumpable = 0
fs.protected_fifos = 2
fs.protected_regular = 2

# The network. Forwarding and loose reverse path filtering stay enabled: pods of the VPC CNI need both.
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.default.accept_redirects = 0
net.ipv4.conf.all.secure_redirects = 0
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.all.accept_source_route = 0
net.ipv6.conf.all.accept_redirects = 0
net.ipv6.conf.all.accept_source_route = 0
net.ipv4.icmp_echo_ignore_broadcasts = 1
net.ipv4.tcp_syncookies = 1
CONF

if [ -z "$root" ]; then
  sysctl --system >/dev/null
fi
echo "Kernel settings are in place."
