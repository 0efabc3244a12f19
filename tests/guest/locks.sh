# A Linux client locks by versions 3 and 4 at once: port step...
port=$1; shift
hostname guest
modprobe -q nfs; modprobe -q nfsv3; modprobe -q nfsv4
rpcbind -w || { echo "no rpcbind"; exit 1; }
rpc.statd --no-notify || { echo "no rpc.statd"; exit 1; }
mkdir -p /mnt/3 /mnt/other /mnt/4
# Without the ports: rpcbind tells them. Locks are those of the server.
mount -t nfs -o vers=3,timeo=100 10.0.2.2:/ /mnt/3 || { echo "the mount fails"; exit 1; }
mount -t nfs -o vers=3,timeo=100,nosharecache 10.0.2.2:/ /mnt/other || exit 1
mount -t nfs -o vers=4.1,port="$port",nosharecache 10.0.2.2:/ /mnt/4 || exit 1
grep ' nfs' /proc/mounts
echo text > /mnt/3/file
python3 locks.py "$@"; code=$?
rpcinfo -p 10.0.2.2
umount /mnt/3 /mnt/other /mnt/4
exit $code
