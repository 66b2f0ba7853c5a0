// Drives a peer: reads the task, keeps so many requests in flight, says what they cost.
import { readFileSync } from "node:fs";

export const task = JSON.parse(readFileSync(0, "utf8"));

async function all(count, send) {
  let next = 0;
  let failures = 0;
  async function worker() {
    while (next < count) {
      if (!(await send(next++))) failures += 1;
    }
  }
  await Promise.all(Array.from({ length: task.at_once }, worker));
  return failures;
}

function cpu() {
  const { user, system } = process.cpuUsage();
  return user + system;
}

export async function measure(send) {
  await all(task.warm, send);
  const began = process.hrtime.bigint();
  let used = cpu();
  const failures = await all(task.requests, send);
  used = cpu() - used;
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log(JSON.stringify({ cpu_us: used / task.requests, rate: task.requests / seconds, failures }));
}
