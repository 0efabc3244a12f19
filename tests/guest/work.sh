# What a Linux client does all day, on a mount of VERSION: port version [options]
. ./mount.sh
mount_server "$2" "$1" "${3:-}" || { echo "the mount fails"; exit 1; }
cd /mnt/nfs && mkdir work && cd work || exit 1
failures=0
check() {
    local what=$1; shift
    if "$@" > /tmp/said 2>&1; then echo "ok   $what"
    else echo "FAIL $what: $(head -c 400 /tmp/said)"; failures=$((failures + 1)); fi
}
forget() { sync; echo 3 > /proc/sys/vm/drop_caches; }
is() { [ "$(eval "$1")" = "$2" ]; }
same_after_forgetting() { local sum; sum=$(md5sum < "$1") && forget && [ "$(md5sum < "$1")" = "$sum" ]; }

echo hello > file
check "append" bash -c 'echo more >> file && [ $(stat -c %s file) = 11 ]'
check "rename over" bash -c 'echo new > other && mv other file && [ "$(cat file)" = new ] && ! [ -e other ]'
check "links" bash -c 'ln file second && [ $(stat -c %h file) = 2 ] && ln -s file soft && [ "$(cat soft)" = new ]'
check "mode" bash -c 'chmod 4711 file && [ $(stat -c %a file) = 4711 ]'
check "owner" bash -c 'chown 2001:2002 file && [ $(stat -c %u:%g file) = 2001:2002 ]'
check "length" bash -c 'truncate -s 1000000 file && [ $(stat -c %s file) = 1000000 ]'
check "time" bash -c 'touch -d @1000000000.123456789 file && [ $(stat -c %.9Y file) = 1000000000.123456789 ]'
check "pipe and device" bash -c 'mkfifo pipe && [ -p pipe ] && mknod node c 1 3 && [ $(stat -c %t:%T node) = 1:3 ]'
check "removed while open" bash -c 'exec 5<> file && rm file && echo text >&5 && [ "$(cat second | head -c 4)" = text ]'
check "many names" bash -c 'mkdir many && cd many && for n in $(seq 1500); do : > n$n; done && echo 2 > /proc/sys/vm/drop_caches && [ $(ls | wc -l) = 1500 ] && cd .. && rm -r many && ! [ -e many ]'
check "directory with something in it" bash -c 'mkdir full && : > full/x && ! rmdir full 2> /dev/null && rm full/x && rmdir full'
dd if=/dev/urandom of=large bs=64k count=160 2> /dev/null
dd if=/dev/zero of=large bs=1 seek=20000000 count=1 conv=notrunc 2> /dev/null
check "contents after the cache is dropped" same_after_forgetting large
check "other users" bash -c 'mkdir -m 700 closed && : > closed/x && ! setpriv --reuid 2001 --regid 2001 --clear-groups cat closed/x'
check "room" bash -c 'df -k . | grep -q 10.0.2.2'
check "git" bash -c 'git init -q a && cd a && git config user.email a@b && git config user.name a && for n in $(seq 40); do seq $n 400 > f$n; done && git add . && git commit -qm one && cd .. && git clone -q a b && diff -r -x .git a b && cd b && git fsck --full'
check "writes that are verified" fio --name=v --filename=v.dat --rw=randwrite --bs=16k --size=8m --verify=crc32c --ioengine=psync --do_verify=1 --end_fsync=1
check "writes past the cache that are verified" fio --name=d --filename=d.dat --rw=randwrite --bs=4k --size=4m --verify=crc32c --direct=1 --ioengine=psync --do_verify=1
cd / && umount /mnt/nfs || failures=$((failures + 1))
echo "$failures failures"
exit $((failures > 0))
