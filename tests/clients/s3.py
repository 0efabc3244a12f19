"""What boto3 sees of a server that `s3.rs` runs. `s3.py CHECK [ARGUMENT...]`
runs one check; the tree is mounted at MOUNT."""

import hashlib
import os
import sys
import threading
import urllib.error
import urllib.request

import boto3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

MOUNT = os.environ.get("MOUNT", "")


def client(**more):
    config = Config(
        s3={"addressing_style": "path"}, retries={"max_attempts": 1}, max_pool_connections=32
    )
    # Older versions do not look for it themselves.
    more.setdefault("endpoint_url", os.environ.get("AWS_ENDPOINT_URL"))
    return boto3.client("s3", config=config, verify=os.environ.get("CA", True), **more)


s3 = client()


def refused(call, **arguments):
    """The code of the error, or None."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def expect(found, wanted, what=""):
    assert found == wanted, f"{what}: found {found!r}, wanted {wanted!r}"


def put_if(header, key, body):
    """A put with a condition, which older versions of boto3 have no parameter for."""
    one = client()
    add = lambda request, **_: request.headers.add_header(*header)
    one.meta.events.register("before-sign.s3.PutObject", add)
    return refused(one.put_object, Bucket="bucket", Key=key, Body=body)


def read(key, **more):
    return s3.get_object(Bucket="bucket", Key=key, **more)["Body"].read()


def listed(**query):
    """All keys and prefixes, page by page, in the order of the pages."""
    found = []
    while True:
        page = s3.list_objects_v2(Bucket="bucket", **query)
        keys = [item["Key"] for item in page.get("Contents", [])]
        keys += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        found += sorted(keys, key=str.encode)
        if not page["IsTruncated"]:
            return found
        query["ContinuationToken"] = page["NextContinuationToken"]


def files():
    s3.create_bucket(Bucket="bucket")
    body = os.urandom(300_000)
    put = s3.put_object(
        Bucket="bucket", Key="a/b/c", Body=body, Metadata={"who": "me"}, ContentType="x/y",
        CacheControl="no-store", Tagging="k=v",
    )
    expect(put["ETag"], f'"{hashlib.md5(body).hexdigest()}"')
    path = f"{MOUNT}/bucket/a/b/c"
    expect(open(path, "rb").read(), body, "put, read through the mount")
    expect(os.getxattr(path, "user.mime_type"), b"x/y")
    got = s3.get_object(Bucket="bucket", Key="a/b/c")
    expect((got["Metadata"], got["ContentType"], got["CacheControl"]), ({"who": "me"}, "x/y", "no-store"))
    expect(s3.get_object_tagging(Bucket="bucket", Key="a/b/c")["TagSet"], [{"Key": "k", "Value": "v"}])
    expect(read("a/b/c", Range="bytes=5-9"), body[5:10])
    expect(read("a/b/c", Range="bytes=-7"), body[-7:])
    expect(refused(s3.get_object, Bucket="bucket", Key="a/b/c", Range="bytes=300000-"), "InvalidRange")
    # What the kernel knows of a file, a name, a missing name and a listing.
    for turn in range(100):
        text = str(turn) * (turn + 1)
        assert not os.path.exists(f"{MOUNT}/bucket/new{turn}")
        before = len(os.listdir(f"{MOUNT}/bucket"))
        s3.put_object(Bucket="bucket", Key=f"new{turn}", Body=text)
        s3.put_object(Bucket="bucket", Key="same", Body=text)
        expect(open(f"{MOUNT}/bucket/same").read(), text, "replaced")
        expect(os.path.getsize(f"{MOUNT}/bucket/new{turn}"), len(text))
        expect(len(os.listdir(f"{MOUNT}/bucket")), before + (2 if turn == 0 else 1), "listing")
        with open(f"{MOUNT}/bucket/same", "w") as file:
            file.write(text + "!")
        expect(read("same").decode(), text + "!", "written through the mount")
        s3.delete_object(Bucket="bucket", Key=f"new{turn}")
        assert not os.path.exists(f"{MOUNT}/bucket/new{turn}")
    os.makedirs(f"{MOUNT}/made/x")
    assert "made" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    expect(refused(s3.delete_bucket, Bucket="made"), "BucketNotEmpty")
    # Directories that keys made go with them, others stay.
    s3.put_object(Bucket="made", Key="x/y/z", Body=b"")
    s3.delete_object(Bucket="made", Key="x/y/z")
    expect(os.listdir(f"{MOUNT}/made/x"), [])
    s3.delete_object(Bucket="made", Key="x/")
    s3.delete_bucket(Bucket="made")
    assert not os.path.exists(f"{MOUNT}/made")
    # A copy is the object.
    s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/a/b/c")
    expect(read("copy"), body)
    expect(s3.head_object(Bucket="bucket", Key="copy")["ETag"], put["ETag"])
    many = [{"Key": key} for key in ("copy", "a/b/c", "no/such")]
    expect(len(s3.delete_objects(Bucket="bucket", Delete={"Objects": many})["Deleted"]), 3)
    assert not os.path.exists(f"{MOUNT}/bucket/a")
    assert ".kiseki" not in os.listdir(MOUNT)
    expect(refused(s3.put_bucket_versioning, Bucket="bucket",
                   VersioningConfiguration={"Status": "Enabled"}), "NotImplemented")


def paths():
    s3.create_bucket(Bucket="bucket")
    put = lambda key, body=b"x": refused(s3.put_object, Bucket="bucket", Key=key, Body=body)
    expect(put("file"), None)
    expect(put("dir/file"), None)
    expect(put("x" * 255), None)
    for key in ("a//b", "/a", "a/../b", "a/./b", "..", "a/.."):
        expect(put(key), "InvalidArgument", key)
        assert refused(s3.get_object, Bucket="bucket", Key=key), key
    expect(put("x" * 256), "KeyTooLongError")
    expect(put("file/below"), "PathConflict")
    expect(put("dir"), "PathConflict")
    expect(put("mark/", b"x"), "InvalidArgument")
    expect(put("mark/", b""), None)
    expect(refused(s3.head_object, Bucket="bucket", Key="mark/"), None)
    expect(refused(s3.head_object, Bucket="bucket", Key="dir/"), "404")
    os.symlink("/etc/passwd", f"{MOUNT}/bucket/link")
    os.symlink("/etc", f"{MOUNT}/bucket/out")
    expect(refused(s3.get_object, Bucket="bucket", Key="link"), "NoSuchKey")
    expect(refused(s3.get_object, Bucket="bucket", Key="out/passwd"), "NoSuchKey")
    expect(put("link"), "PathConflict")
    open(os.fsencode(MOUNT) + b"/bucket/\xff\xfe", "w").close()
    expect(listed(), ["dir/file", "file", "mark/", "x" * 255])
    expect(read("file") + read("dir/file"), b"xx")


def order():
    s3.create_bucket(Bucket="bucket")
    names = ["a", "a-b", "a.txt", "a/x", "a/x/y", "a0", "b c+d", "b/1", "b/2", "b/c/3", "caf\u00e9",
             "\U0001f600", "\uff5e", "z", "zz/zz/zz", "&<>"]
    names = [name for name in names if name not in ("a", "a/x")]
    for name in names:
        path = f"{MOUNT}/bucket/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    wanted = sorted(names, key=str.encode)
    for size in (1, 2, 3, 1000):
        expect(listed(MaxKeys=size), wanted, f"pages of {size}")
        expect(listed(MaxKeys=size, Delimiter="/"),
               sorted({name.split("/")[0] + "/" * ("/" in name) for name in names}, key=str.encode))
        expect(listed(MaxKeys=size, Prefix="b/"), ["b/1", "b/2", "b/c/3"])
        expect(listed(MaxKeys=size, Prefix="b/", Delimiter="/"), ["b/1", "b/2", "b/c/"])
        expect(listed(MaxKeys=size, Prefix="a", Delimiter="-"),
               ["a-", "a.txt", "a/x/y", "a0"])
    for after in wanted:
        expect(listed(StartAfter=after), [name for name in wanted if name.encode() > after.encode()], after)
    expect([item["Key"] for item in s3.list_objects(Bucket="bucket", Marker="b/1")["Contents"]],
           [name for name in wanted if name.encode() > b"b/1"])
    # A listing that was begun sees what comes and goes behind its place.
    page = s3.list_objects_v2(Bucket="bucket", MaxKeys=3)
    s3.put_object(Bucket="bucket", Key="yy", Body=b"")
    os.unlink(f"{MOUNT}/bucket/z")
    rest = listed(ContinuationToken=page["NextContinuationToken"])
    assert "yy" in rest and "z" not in rest, rest


def many(count):
    count = int(count)
    wanted = sorted(os.listdir(f"{MOUNT}/bucket"))
    expect(len(wanted), count)
    expect(listed(), wanted)


def conditions():
    s3.create_bucket(Bucket="bucket")
    for turn in range(5):
        won, together = [], threading.Barrier(12)

        def write(number, key=f"race{turn}"):
            together.wait()
            if put_if(("If-None-Match", "*"), key, str(number)) is None:
                won.append(number)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        expect(len(won), 1, "writers that won")
        expect(read(f"race{turn}").decode(), str(won[0]))
    etag = s3.head_object(Bucket="bucket", Key="race0")["ETag"]
    expect(put_if(("If-Match", '"0"'), "race0", "x"), "PreconditionFailed")
    expect(put_if(("If-Match", etag), "race0", "x"), None)
    expect(refused(s3.get_object, Bucket="bucket", Key="race0", IfMatch=etag), "PreconditionFailed")
    now = s3.head_object(Bucket="bucket", Key="race0")
    expect(refused(s3.get_object, Bucket="bucket", Key="race0", IfNoneMatch=now["ETag"]), "304")
    changed = now["LastModified"]
    expect(refused(s3.get_object, Bucket="bucket", Key="race0", IfModifiedSince=changed), "304")
    expect(refused(s3.get_object, Bucket="bucket", Key="race0", IfUnmodifiedSince=changed), None)


def readers():
    s3.create_bucket(Bucket="bucket")
    bodies = [bytes([number]) * (2_000_000 + number) for number in range(4)]
    s3.put_object(Bucket="bucket", Key="object", Body=bodies[0])
    stop, wrong = threading.Event(), []

    def look():
        while not stop.is_set():
            if read("object") not in bodies or open(f"{MOUNT}/bucket/object", "rb").read() not in bodies:
                wrong.append(1)

    threads = [threading.Thread(target=look) for _ in range(4)]
    [thread.start() for thread in threads]
    for turn in range(20):
        s3.put_object(Bucket="bucket", Key="object", Body=bodies[turn % 4])
    stop.set()
    [thread.join() for thread in threads]
    assert not wrong, "a reader saw a mix"


def etags():
    s3.create_bucket(Bucket="bucket")
    for size in (5, 500_000):
        s3.put_object(Bucket="bucket", Key="object", Body=b"a" * size)
        path = f"{MOUNT}/bucket/object"
        etag = lambda: s3.head_object(Bucket="bucket", Key="object")["ETag"]
        first, times = etag(), os.stat(path)
        os.rename(path, path + "2")
        os.chmod(path + "2", 0o600)
        os.rename(path + "2", path)
        expect(etag(), first, "moved, not changed")
        with open(path, "r+b") as file:
            file.write(b"b")
            file.flush()
            assert etag() != first, "written, not yet closed"
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        second = etag()
        assert second not in (first, None) and second.endswith('-0"'), second
        with open(path, "r+b") as file:
            file.write(b"c")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert etag() not in (first, second), "same size, same time"
        expect(put_if(("If-Match", first), "object", "lost"), "PreconditionFailed")


def multipart_begin(path, state):
    s3.create_bucket(Bucket="bucket")
    upload = s3.create_multipart_upload(Bucket="bucket", Key="big/object", Metadata={"k": "v"})["UploadId"]
    with open(path, "rb") as file:
        for number in range(1, 5):
            s3.upload_part(Bucket="bucket", Key="big/object", UploadId=upload, PartNumber=number,
                           Body=file.read(16 << 20))
    other = s3.create_multipart_upload(Bucket="bucket", Key="other")["UploadId"]
    s3.upload_part(Bucket="bucket", Key="other", UploadId=other, PartNumber=1, Body=b"1")
    s3.abort_multipart_upload(Bucket="bucket", Key="other", UploadId=other)
    expect(refused(s3.list_parts, Bucket="bucket", Key="other", UploadId=other), "NoSuchUpload")
    expect(listed(), [], "an upload is no object")
    open(state, "w").write(upload)


def multipart_end(path, state):
    upload = open(state).read()
    expect([item["UploadId"] for item in s3.list_multipart_uploads(Bucket="bucket")["Uploads"]], [upload])
    this = {"Bucket": "bucket", "Key": "big/object", "UploadId": upload}
    there = {part["PartNumber"]: part["ETag"] for part in s3.list_parts(**this)["Parts"]}
    expect(sorted(there), [1, 2, 3, 4])
    sums = []
    with open(path, "rb") as file:
        number = 0
        while body := file.read(16 << 20):
            number += 1
            sums.append(hashlib.md5(body).digest())
            if number not in there:
                there[number] = s3.upload_part(PartNumber=number, Body=body, **this)["ETag"]
    parts = [{"PartNumber": number, "ETag": there[number]} for number in sorted(there)]
    wrong = [parts[1], parts[0]]
    expect(refused(s3.complete_multipart_upload, MultipartUpload={"Parts": wrong}, **this), "InvalidPartOrder")
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **this)
    expect(done["ETag"], f'"{hashlib.md5(b"".join(sums)).hexdigest()}-{len(parts)}"')
    head = s3.head_object(Bucket="bucket", Key="big/object")
    expect((head["ETag"], head["Metadata"]), (done["ETag"], {"k": "v"}))
    expect(refused(s3.list_parts, **this), "NoSuchUpload")


def signatures():
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="object", Body=b"secret")
    key = os.environ["AWS_ACCESS_KEY_ID"]
    wrong = client(aws_access_key_id=key, aws_secret_access_key="x" * 40)
    expect(refused(wrong.list_buckets), "SignatureDoesNotMatch")
    expect(refused(wrong.put_object, Bucket="bucket", Key="object", Body=b"x"), "SignatureDoesNotMatch")
    unknown = client(aws_access_key_id="KSAAAAAAAAAAAAAAAAAA", aws_secret_access_key="x" * 40)
    expect(refused(unknown.list_buckets), "InvalidAccessKeyId")
    for version in ("s3", "s3v4"):
        config = Config(signature_version=version, s3={"addressing_style": "path"})
        url = boto3.client("s3", config=config, verify=os.environ.get("CA", True)).generate_presigned_url(
            "get_object", Params={"Bucket": "bucket", "Key": "object"}, ExpiresIn=60)
        expect(urllib.request.urlopen(url).read(), b"secret")
        for bad in (url.replace("Signature=", "Signature=0"), url.replace("object", "another"),
                    url.split("?")[0]):
            try:
                urllib.request.urlopen(bad)
                raise AssertionError(f"answered: {bad}")
            except urllib.error.HTTPError as error:
                assert error.code in (400, 403), error.code
    expect(read("object"), b"secret")
    # A body that is not the one that was signed.
    flip = client()
    change = lambda request, **_: setattr(request, "body", b"forged")
    flip.meta.events.register("before-send.s3.PutObject", change)
    assert refused(flip.put_object, Bucket="bucket", Key="object", Body=b"signed")
    expect(read("object"), b"secret")
    sums = {"SHA256": "ChecksumSHA256", "SHA1": "ChecksumSHA1", "CRC32": "ChecksumCRC32"}
    for name, field in sums.items():
        put = s3.put_object(Bucket="bucket", Key="sum", Body=b"abc", ChecksumAlgorithm=name)
        got = s3.head_object(Bucket="bucket", Key="sum", ChecksumMode="ENABLED")
        expect(got[field], put[field])
    expect(refused(s3.put_object, Bucket="bucket", Key="sum", Body=b"abc", ChecksumSHA256="A" * 43 + "="), "BadDigest")


def denied():
    expect(refused(s3.list_buckets), "InvalidAccessKeyId")


def put_until_killed(ledger):
    s3.create_bucket(Bucket="bucket")
    with open(ledger, "w") as notes:
        for number in range(1_000_000):
            body = f"{number} " * (1 + number % 3000)
            s3.put_object(Bucket="bucket", Key=f"d{number % 7}/{number}", Body=body)
            notes.write(f"{number}\n")
            notes.flush()


def put_survived(ledger):
    numbers = [int(line) for line in open(ledger).read().split()]
    assert len(numbers) > 10, "too few puts to say anything"
    for number in numbers:
        expect(read(f"d{number % 7}/{number}").decode(), f"{number} " * (1 + number % 3000), number)
    print(len(numbers), "objects survived")


def empty(bucket):
    keys = s3.list_objects_v2(Bucket=bucket)["KeyCount"]
    expect(keys, 0)


def put_and_get(length):
    body = os.urandom(int(length))
    s3.put_object(Bucket="bucket", Key="key", Body=body)
    expect(read("key"), body)


def request(method, path, body=b"", **headers):
    """The bytes of a request whose head is signed, and whose body is not."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    one = AWSRequest(method, endpoint + path, headers=headers)
    S3SigV4QueryAuth(boto3.Session().get_credentials(), "s3", "us-east-1", expires=3600).add_auth(one)
    headers |= {"Host": endpoint.removeprefix("http://"), "Content-Length": len(body), "Connection": "close"}
    lines = [f"{method} {one.url.removeprefix(endpoint)} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def requests():
    """A request of each kind, in hexadecimal; the server accepts them in this order."""
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="old", Body=b"o" * 1000)
    upload = s3.create_multipart_upload(Bucket="bucket", Key="parts")["UploadId"]
    tag = s3.upload_part(Bucket="bucket", Key="parts", UploadId=upload, PartNumber=1, Body=b"p" * 100)["ETag"]
    parts = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    names = "<Object><Key>new</Key></Object><Object><Key>none</Key></Object>"
    tags = "<TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet>"
    xml = lambda name, text: f'<?xml version="1.0"?><{name}>{text}</{name}>'.encode()
    for one in [
        request("PUT", "/bucket/new", b"n" * 5000),
        request("PUT", "/bucket/named", b"n" * 500, x_amz_meta_name="value", If_None_Match="*", Content_Type="text/plain"),
        request("PUT", "/bucket/copy", x_amz_copy_source="/bucket/old"),
        request("PUT", "/bucket/new?tagging=", xml("Tagging", tags)),
        request("GET", "/bucket/new?tagging="),
        request("GET", "/bucket/old", Range="bytes=10-19", If_Match="*"),
        request("GET", "/bucket?prefix=o&delimiter=%2F&max-keys=2"),
        request("GET", "/bucket?list-type=2&start-after=n&encoding-type=url"),
        request("GET", "/bucket?uploads="),
        request("GET", f"/bucket/parts?uploadId={upload}"),
        request("PUT", f"/bucket/parts?partNumber=2&uploadId={upload}", b"q" * 200),
        request("POST", f"/bucket/parts?uploadId={upload}", xml("CompleteMultipartUpload", parts)),
        request("POST", "/bucket/more?uploads="),
        request("POST", "/bucket?delete=", xml("Delete", names)),
        request("DELETE", "/bucket/old"),
    ]:
        print(one.hex())


globals()[sys.argv[1]](*sys.argv[2:])
