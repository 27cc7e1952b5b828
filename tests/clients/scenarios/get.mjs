// get.mjs UNDICI URL [AUTHORIZATION]: the package's `request` through the proxy of the environment.
import { createRequire } from "node:module";

const [undiciFile, url, authorization] = process.argv.slice(2);
const { request, EnvHttpProxyAgent } = createRequire(import.meta.url)(undiciFile);
const answer = await request(url, {
  dispatcher: new EnvHttpProxyAgent(),
  headers: authorization ? { authorization } : {},
});
const text = await answer.body.text();
if (answer.statusCode !== 200) {
  console.error(`${answer.statusCode}: ${text}`);
  process.exit(1);
}
console.log(text);
