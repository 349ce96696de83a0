"""Takes one message at a time from SQS while the worker is held, and renews its lease beside the job:
python sqs_consumer.py QUEUE_URL COMMAND...   (the command reads the message from its standard input).
"""

import contextlib
import os
import subprocess
import sys

import boto3
import requests

CONTROL = f"http://127.0.0.1:{os.environ.get('NULL_CONTROL_PORT', '18999')}"
LEASE_S = int(os.environ.get("LEASE_S", "60"))  # short, so that a dead worker's job is soon somebody else's
QUEUE_URL, *COMMAND = sys.argv[1:]
sqs = boto3.client("sqs")


def held(wait_s: int) -> bool:
    return requests.get(f"{CONTROL}/reservation?wait={wait_s}", timeout=90).json()["held"]


while True:
    messages = sqs.receive_message(QueueUrl=QUEUE_URL, WaitTimeSeconds=1).get("Messages", []) if held(60) else []
    for message in messages if held(0) else []:  # one at most, for that is how many are asked for
        lease = {"QueueUrl": QUEUE_URL, "ReceiptHandle": message["ReceiptHandle"]}
        with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, text=True) as job:
            job.stdin.write(message["Body"])
            job.stdin.close()
            while job.poll() is None and held(0):
                sqs.change_message_visibility(**lease, VisibilityTimeout=LEASE_S)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.wait(LEASE_S / 3)
            job.terminate()  # if it has not ended, the worker is no longer held
        if job.returncode == 0:  # otherwise the message comes again when its lease ends
            sqs.delete_message(**lease)
    if not messages:
        requests.post(f"{CONTROL}/release", timeout=10)
