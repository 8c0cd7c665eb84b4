#!/usr/bin/env bash
# Disables kernel modules that no node needs: file systems and protocols with a history of vulnerabilities.
set -euo pipefail
root=${ROOT:-}

install -d -m 0755 "$root/etc/modprobe.d"
for module in cramfs freevxfs hfs hfsplus jffs2 udf dccp rds sctp tipc firewire-core usb-storage; do
  printf 'install %s /bin/false\nblacklist %s\n' "$module" "$module"
done >"$root/etc/modprobe.d/90-hardening.conf"
echo "Unneeded kernel modules cannot be loaded."
