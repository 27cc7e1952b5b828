"""aws.py BASE_URL: an object to S3 and back, whole and in parts, an item to DynamoDB, and who one is; keys come from the environment."""

import io
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

base = sys.argv[1]
config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


def client(name, path):
    return boto3.client(name, region_name="eu-central-1", endpoint_url=base + path, config=config)


s3 = client("s3", "")
s3.put_object(Bucket="bucket", Key="put", Body=b"bytes in hand")
# A file of unknown checksum goes in chunks with a trailer.
s3.put_object(Bucket="bucket", Key="file", Body=io.BytesIO(b"a stream" * 1000))
content = s3.get_object(Bucket="bucket", Key="get")["Body"].read().decode()
part = s3.get_object(Bucket="bucket", Key="get", Range="bytes=3-4")["Body"].read().decode()
assert part == "te", part
# In three parts, put together by where they should be.
whole = io.BytesIO()
s3.download_fileobj("bucket", "get", whole, Config=TransferConfig(multipart_threshold=1, multipart_chunksize=3))
assert whole.getvalue() == b"content", whole.getvalue()
client("dynamodb", "/dynamodb").put_item(TableName="t", Item={"id": {"S": "1"}})
account = client("sts", "/sts").get_caller_identity()["Account"]
print(content, account)
