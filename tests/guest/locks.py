# Locks on mounts of one server: /mnt/3, /mnt/other (version 3, kept apart from the
# first by its kernel) and /mnt/4. They meet at the server alone.
import errno, fcntl, os, signal, subprocess, sys, time

A, B, C = '/mnt/3', '/mnt/other', '/mnt/4'


def take(mount, kind=fcntl.LOCK_EX, start=0, length=0, wait=False):
    file = os.open(f'{mount}/file', os.O_RDWR)
    fcntl.lockf(file, kind | (0 if wait else fcntl.LOCK_NB), length, start)
    return file


def refused(mount, **words):
    try:
        os.close(take(mount, **words))
    except OSError as error:
        assert error.errno in (errno.EAGAIN, errno.EACCES), error
        return True
    return False


def holder(mount, **words):
    """A process that has a lock until it is ended."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            take(mount, wait=True, **words)
            os.write(write, b'.')
            signal.pause()
        finally:
            os._exit(1)
    assert os.read(read, 1) == b'.'
    return child


def end(child, how=signal.SIGKILL):
    os.kill(child, how)
    os.waitpid(child, 0)


def until(what, done, seconds=60):
    began = time.time()
    while not done():
        assert time.time() - began < seconds, what
        time.sleep(0.2)
    return time.time() - began


def conflicts():
    child = holder(A, start=10, length=10)
    assert refused(B, start=15, length=1), 'by version 3'
    assert refused(C, start=15, length=1), 'by version 4'
    assert not refused(B, start=20, length=5) and not refused(C, start=0, length=10)
    end(child)
    assert not refused(B) and not refused(C), 'it ended with its process'
    child = holder(C)
    assert refused(A) and refused(B), 'of version 4'
    end(child)
    assert not refused(A)


def called():
    """How long one that waits does so after the lock is free."""
    child = holder(A)
    read, write = os.pipe()
    waits = os.fork()
    if waits == 0:
        take(B, wait=True)
        os.write(write, b'.')
        os._exit(0)
    time.sleep(2)
    began = time.time()
    end(child)
    assert os.read(read, 1) == b'.'
    took = time.time() - began
    os.waitpid(waits, 0)
    return took


def waiting():
    # It asks again by itself, every 30 seconds. A machine that is busy for the
    # five seconds that a call may take is not called.
    took = min(called() for _ in range(2))
    assert took < 10, f'it was not called: {took} s'
    print(f'called after {took:.2f} s')
    # One that is ended while it waits leaves nothing behind.
    child = holder(A)
    waits = os.fork()
    if waits == 0:
        take(B, wait=True)
        os._exit(0)
    time.sleep(1)
    end(waits)
    end(child)
    assert not refused(C)


def whole_file():
    """flock goes to the server as well."""
    file = os.open(f'{A}/file', os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX)
    assert refused(B) and refused(C)
    os.close(file)
    assert not refused(B)


def restart_of_the_server():
    """The other side restarts it when there is a file `locked`."""
    child = holder(A, start=0, length=10)
    os.close(os.open(f'{A}/locked', os.O_CREAT | os.O_WRONLY))
    until('it restarts', lambda: os.path.exists(f'{A}/restarted'), 120)
    # Nobody gets anything before the grace period ends.
    took = until('the grace period ends', lambda: not refused(B, start=50, length=1), 120)
    print(f'the grace period took {took:.0f} s')
    assert refused(B, start=5, length=1) and refused(C, start=5, length=1), 'it was not taken back'
    end(child)
    assert not refused(B, start=5, length=1)


def restart_of_the_client():
    """What its programs tell the server when the machine has started."""
    child = holder(A)
    assert refused(C)
    subprocess.run(['sm-notify', '-f', '-m', '1'], check=True)
    until('the lock is gone', lambda: not refused(C))
    end(child)


for step in sys.argv[1:]:
    globals()[step]()
    print(f'ok   {step}')
