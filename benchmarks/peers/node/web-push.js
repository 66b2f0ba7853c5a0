// web-push with an agent that keeps connections alive.
import { readFileSync } from "node:fs";
import https from "node:https";
import webpush from "web-push";
import { measure, task } from "./run.js";

const browsers = JSON.parse(readFileSync(task.subscriptions, "utf8"));
const agent = new https.Agent({ keepAlive: true, maxSockets: task.at_once, ca: readFileSync(task.ca) });
const body = JSON.stringify({ title: task.title, body: task.body });
webpush.setVapidDetails(task.subject, task.vapid_public, task.vapid_private);

await measure(async (n) => {
  const answer = await webpush.sendNotification(browsers[n % browsers.length], body, { TTL: 60, agent });
  return answer.statusCode === 201;
});
process.exit(0);
