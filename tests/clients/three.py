"""One tree over S3, while a mount and NFS edit it too.

three.py edit ROUNDS    puts, replaces and deletes objects of the bucket `tree`
three.py digest         KEY and SHA-256 of each object, in order
"""
import hashlib
import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
BUCKET = "tree"


def edit(rounds):
    for n in range(rounds):
        body = f"s3 {n} ".encode() * (n % 4000)
        for key in (f"d{n % 5}/s3-{n}", f"d{n % 5}/common-{n % 7}"):
            try:
                s3.put_object(Bucket=BUCKET, Key=key, Body=body)
            except ClientError as error:
                # Somebody made a directory of that name, or took one away.
                if error.response["Error"]["Code"] not in ("PathConflict", "NoSuchKey"):
                    raise
        if n % 3 == 0:
            s3.delete_object(Bucket=BUCKET, Key=f"d{n % 5}/s3-{n}")


def digest():
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for found in page.get("Contents", []):
            body = s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read()
            print(found["Key"], hashlib.sha256(body).hexdigest())


match sys.argv[1]:
    case "edit":
        edit(int(sys.argv[2]))
    case "digest":
        digest()
