// node-apn (the maintained fork) as its README shows it: one provider, a notification for each device.
import { readFileSync } from "node:fs";
import apn from "@parse/node-apn";
import { measure, task } from "./run.js";

const place = new URL(task.url);
const provider = new apn.Provider({
  token: { key: task.key_file, keyId: task.key_id, teamId: task.team_id },
  address: place.hostname,
  port: Number(place.port),
  ca: [readFileSync(task.ca)],
  production: false,
});

await measure(async (n) => {
  const note = new apn.Notification();
  note.alert = { title: task.title, body: task.body };
  note.topic = task.topic;
  note.collapseId = "0123456789abcdef";
  const answer = await provider.send(note, n.toString(16).padStart(64, "0"));
  return answer.sent.length === 1;
});
await provider.shutdown();
process.exit(0);
