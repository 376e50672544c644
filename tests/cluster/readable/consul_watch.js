// npm's consul on a node's listener: prints the passing instances of a service each time that its watch says they changed.
// usage: node consul_watch.js MODULES SERVICE
const [modules, service] = process.argv.slice(2);
const Consul = require(`${modules}/consul`);
const consul = new Consul({ host: "127.0.0.1", port: 8500 });
const watch = consul.watch({ method: consul.health.service, options: { service, passing: true, wait: "2s" }, backoffFactor: 100 });
watch.on("error", (error) => console.log(`error ${error.message}`));
watch.on("change", (entries) => console.log(`watch ${entries.length} ${JSON.stringify(entries.map((entry) => entry.Service.Address).sort())}`));
