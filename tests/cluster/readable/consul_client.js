// npm's consul against a node's listener: registers two instances, says they pass, watches, and takes one away again.
// usage: node consul_client.js MODULES ADDRESS1 ADDRESS2; one line for each step, and for each change that the watch sees.
const [modules, first, second] = process.argv.slice(2);
const Consul = require(`${modules}/consul`);
const consul = new Consul({ host: "127.0.0.1", port: 8500 });
const say = (what, value) => console.log(`${what} ${JSON.stringify(value)}`);

let seen = [];
const waiting = [];
const passing = (ids) => new Promise((resolve, reject) => {
  const wanted = JSON.stringify(ids);
  if (JSON.stringify(seen) === wanted) return resolve();
  const timer = setTimeout(() => reject(new Error(`not seen: ${wanted}, but ${JSON.stringify(seen)}`)), 25000);
  waiting.push({ wanted, resolve: () => { clearTimeout(timer); resolve(); } });
});

async function main() {
  say("self", (await consul.agent.self()).Config.NodeName);
  const watch = consul.watch({ method: consul.health.service, options: { service: "api", passing: true }, backoffFactor: 100 });
  watch.on("error", (error) => say("error", error.message));
  watch.on("change", (entries) => {
    seen = entries.map((entry) => entry.Service.ID).sort();
    say("watch", seen);
    for (const one of waiting) if (one.wanted === JSON.stringify(seen)) one.resolve();
  });
  for (const [id, address] of [["api-1", first], ["api/2", second]])
    await consul.agent.service.register({ name: "api", id, address, port: 8080, tags: ["v1", "blue"], meta: { build: "7" }, check: { ttl: "60s" } });
  say("registered", Object.keys(await consul.agent.service.list()).filter((id) => id.startsWith("api")).sort());
  await consul.agent.check.pass("service:api-1");
  await consul.agent.check.pass("service:api/2");
  await passing(["api-1", "api/2"]);
  const entry = (await consul.health.service({ service: "api" })).find((one) => one.Service.ID === "api-1");
  say("entry", { address: entry.Service.Address, port: entry.Service.Port, tags: entry.Service.Tags, build: entry.Service.Meta.build, checks: entry.Checks.map((check) => [check.CheckID, check.Status]) });
  await consul.agent.check.fail({ id: "service:api-1", note: "by test" });
  await passing(["api/2"]);
  await consul.agent.check.pass("service:api-1");
  await passing(["api-1", "api/2"]);
  await consul.agent.service.maintenance({ id: "api/2", enable: true, reason: "test" });
  await passing(["api-1"]);
  await consul.agent.service.maintenance({ id: "api/2", enable: false });
  await consul.agent.check.pass("service:api/2");
  await passing(["api-1", "api/2"]);
  await consul.agent.service.deregister("api/2");
  await passing(["api-1"]);
  say("services", (await consul.catalog.service.list()).api);
  await consul.agent.service.deregister("api-1");
  await passing([]);
  watch.end();
  say("done", true);
}
main().then(() => process.exit(0), (error) => { say("failed", error.message); process.exit(1); });
