# Mounts the server on /mnt/nfs; sourced. VERSION is 3, 4.1 or 4.2; $1 the port.
mount_server() {
    local version=$1 port=$2; shift 2
    local options="proto=tcp,port=$port,timeo=600,retrans=2"
    modprobe -q nfs
    case $version in
        3) modprobe -q nfsv3; options="vers=3,mountproto=tcp,mountport=$port,$options" ;;
        *) modprobe -q nfsv4; options="vers=$version,$options" ;;
    esac
    mount -t nfs -o "$options${1:+,$1}" 10.0.2.2:/ /mnt/nfs
}
