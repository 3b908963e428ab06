// A program that looks services up itself, by SRV records: each request goes to a task that there
// is, in turn, and to another one where that gives no answer.
//
//   ecs-discovery demo
//   node examples/proxies/node.mjs
import { Resolver } from "node:dns/promises";
import { createServer } from "node:http";

const resolver = new Resolver({ timeout: 500, tries: 4 });
resolver.setServers(["127.0.0.1:1053"]);
const MOST_TRIES = 4;
let turn = 0;

async function endpointsOf(name) {
  const records = await resolver.resolveSrv(name);
  const found = records.map(async ({ name, port }) => `${(await resolver.resolve4(name))[0]}:${port}`);
  return (await Promise.all(found)).sort();
}

// For what only reads: it is sent again where it may have been received.
async function get(name, path) {
  const endpoints = await endpointsOf(name);
  const first = turn++;
  for (let n = 0; ; n++) {
    try {
      return await fetch(`http://${endpoints[(first + n) % endpoints.length]}${path}`);
    } catch (error) {
      if (n + 1 === Math.min(MOST_TRIES, endpoints.length)) throw error;
    }
  }
}

createServer(async (request, response) => {
  try {
    const answer = await get("_http._tcp.web.demo.ecs.internal", request.url);
    response.writeHead(answer.status).end(await answer.text());
  } catch (error) {
    response.writeHead(502).end(`${error.cause ?? error}\n`);
  }
}).listen(9000, "127.0.0.1");
