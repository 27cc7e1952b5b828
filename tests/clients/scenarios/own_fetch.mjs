// own_fetch.mjs URL [AUTHORIZATION]: Node's own global `fetch`, which finds the proxy by itself.
const [url, authorization] = process.argv.slice(2);
const answer = await fetch(url, { headers: authorization ? { authorization } : {} });
const text = await answer.text();
if (!answer.ok) {
  console.error(`${answer.status} ${answer.statusText}: ${text}`);
  process.exit(1);
}
console.log(text);
