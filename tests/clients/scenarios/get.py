"""get.py LIBRARY URL [AUTHORIZATION]: prints the body; as users write it, with the library's defaults."""

import asyncio
import sys


def by_urllib(url, headers):
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        sys.exit(f"{error}: {error.read().decode()}")


def by_requests(url, headers):
    import requests

    answer = requests.get(url, headers=headers)
    try:
        answer.raise_for_status()
    except requests.HTTPError as error:
        sys.exit(f"{error}: {answer.text}")
    return answer.text


def by_requests_and_socks(url, headers):
    import os

    import requests

    proxy = os.environ["HTTPS_PROXY"].replace("http://", "socks5h://")
    return requests.get(url, headers=headers, proxies={"https": proxy}).text


def by_urllib3(url, headers):
    import os

    import urllib3

    manager = urllib3.ProxyManager(os.environ["HTTPS_PROXY"], ca_certs=os.environ["SSL_CERT_FILE"])
    answer = manager.request("GET", url, headers=headers)
    if answer.status != 200:
        sys.exit(f"{answer.status} {answer.reason}: {answer.data.decode()}")
    return answer.data.decode()


def by_httpx(url, headers):
    import httpx

    answer = httpx.get(url, headers=headers)
    try:
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        sys.exit(f"{error}: {answer.text}")
    return answer.text


def by_aiohttp(url, headers):
    import aiohttp

    async def get():
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.get(url, headers=headers) as answer:
                text = await answer.text()
                if answer.status != 200:
                    sys.exit(f"{answer.status} {answer.reason}: {text}")
                return text

    return asyncio.run(get())


library, url, *authorization = sys.argv[1:]
headers = {"Authorization": authorization[0]} if authorization else {}
print(globals()[f"by_{library}"](url, headers))
