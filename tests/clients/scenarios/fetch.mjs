// fetch.mjs UNDICI URL [AUTHORIZATION]: Node's own global `fetch`, sent through the proxy of the environment.
import { createRequire } from "node:module";

const [undiciFile, url, authorization] = process.argv.slice(2);
const { EnvHttpProxyAgent, setGlobalDispatcher } = createRequire(import.meta.url)(undiciFile);
setGlobalDispatcher(new EnvHttpProxyAgent());
const answer = await fetch(url, { headers: authorization ? { authorization } : {} });
const text = await answer.text();
if (!answer.ok) {
  console.error(`${answer.status} ${answer.statusText}: ${text}`);
  process.exit(1);
}
console.log(text);
