# AppArmor profile for sealpostd: a third cage around the ones of the roles and of systemd.
# Not loaded by itself: it has to be tried where it is to hold. Copy it to /etc/apparmor.d/, begin with
# `aa-complain /etc/apparmor.d/usr.sbin.sealpostd`, and enforce it when the log stays quiet. The roles change their
# root directory: attach_disconnected.
abi <abi/3.0>,
include <tunables/global>

profile sealpostd /usr/sbin/sealpostd flags=(attach_disconnected) {
    include <abstractions/base>
    include <abstractions/nameservice>
    include <abstractions/openssl>
    include <abstractions/ssl_certs>

    # What puts roles into their cages; the supervisor keeps no other.
    capability setuid setgid setpcap sys_chroot sys_admin ipc_lock,
    # The door's part, which has no other; it is this program, too.
    capability net_bind_service,
    network inet stream,
    network inet6 stream,
    network inet dgram,
    network inet6 dgram,
    unix,
    signal (send, receive) peer=sealpostd,

    # Itself again, once a role; nothing else is executed.
    /usr/sbin/sealpostd mrix,

    /etc/sealpost/** r,
    /usr/share/dns/root.key r,
    owner /var/lib/sealpost/{,**} rwk,
    /var/lib/sealpost/** rwk,
    /var/log/sealpost/{,*} rw,
    /run/sealpost/{,*} rw,
    /run/sealpost-door/{,*} rw,
    /run/credentials/sealpost{,-door}.service/{,*} r,
    /run/systemd/notify w,
    @{PROC}/@{pid}/{status,mountinfo,uid_map,gid_map,setgroups} rw,
    @{PROC}/sys/kernel/** r,
    /dev/null rw,

    deny ptrace (trace, tracedby, read), # but for readby: sealpostctl check
    deny mount,
    deny /home/** rwx,
    deny /root/** rwx,
}
