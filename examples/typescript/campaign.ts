// Start a Clarion campaign with Temporal's own SDK, follow it, and steer it.
//
// Nothing of Clarion is imported: a workflow type, a task queue, an id and one JSON object are the whole
// contract (docs/schema).

import { createHash, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Client,
  Connection,
  WorkflowExecutionAlreadyStartedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
} from '@temporalio/client';
import { loadClientConnectConfig } from '@temporalio/envconfig';

const USAGE = `usage:
  campaign start ID SPEC.json    start the campaign of that id; again with the same spec: the same campaign
  campaign watch ID              print its progress until it is closed
  campaign pause ID [REASON]     start nothing more until resume
  campaign resume ID             go on exactly where it stood`;

// Where a start leaves the digest of its input, so that a repeated one is recognised.
const MEMO_KEY = 'input_sha256';

// What is printed of docs/schema/CampaignProgress.json, PushProgress.json and CommandAnswer.json.
interface CampaignProgress {
  status: string;
  stages: { push_id: string; phase: string }[];
}
interface PushProgress {
  phase: string;
  hold: string;
  audience: number;
  lanes: { accepted: number; rejected: number }[];
}
interface CommandAnswer {
  version: number;
  hold: string;
  already: boolean;
}

/** A mistake of the caller's: its message is all there is to say. */
class Refused extends Error {}

async function start(client: Client, id: string, file: string): Promise<void> {
  const text = await readFile(file, 'utf8');
  const content = createHash('sha256').update(text).digest('hex');
  const workflowId = `campaign/${id}`;
  try {
    const handle = await client.workflow.start('CampaignWorkflow', {
      workflowId,
      taskQueue: 'control',
      args: [JSON.parse(text)],
      memo: { [MEMO_KEY]: content },
      workflowIdConflictPolicy: 'FAIL',
      // Ten seconds, Temporal's default, would be a killed worker's silence.
      workflowTaskTimeout: '3s',
    });
    console.log(`started ${workflowId} (run ${handle.firstExecutionRunId})`);
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    await sameOrRefuse(client, workflowId, content);
  }
}

/**
 * A start that is repeated, because its answer was lost, finds the campaign that it made. (Once a campaign is
 * closed Clarion itself compares, and sends nothing again.)
 */
async function sameOrRefuse(client: Client, workflowId: string, content: string): Promise<void> {
  const running = await client.workflow.getHandle(workflowId).describe();
  if (running.memo?.[MEMO_KEY] !== content) {
    throw new Refused(`${workflowId} is running with other content: choose another id, or cancel it first`);
  }
  console.log(`${workflowId} is running already`);
}

async function watch(client: Client, id: string): Promise<void> {
  const campaign = client.workflow.getHandle(`campaign/${id}`);
  for (;;) {
    const progress = await campaign.query<CampaignProgress>('progress');
    for (const stage of progress.stages) {
      if (stage.phase !== 'to come') await printPush(client, stage.push_id);
    }
    if (progress.status !== 'pending' && progress.status !== 'sending') {
      console.log(`${id}: ${progress.status}`);
      return;
    }
    await sleep(500);
  }
}

async function printPush(client: Client, id: string): Promise<void> {
  try {
    const push = await client.workflow.getHandle(`push/${id}`).query<PushProgress>('progress');
    const sum = (name: 'accepted' | 'rejected') => push.lanes.reduce((total, lane) => total + lane[name], 0);
    console.log(
      `push ${id}: ${push.phase}, hold ${push.hold}, ` +
        `${sum('accepted')} accepted, ${sum('rejected')} rejected of ${push.audience}`,
    );
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error; // just being opened
  }
}

/** Say an operator's word. The command id makes it safe to repeat: the same one acts once. */
async function tell(client: Client, id: string, word: string, input: Record<string, string>): Promise<void> {
  const answer = await client.workflow
    .getHandle(`campaign/${id}`)
    .executeUpdate<CommandAnswer, [Record<string, string>]>(word, {
      args: [{ ...input, by: 'typescript', command_id: randomUUID() }],
    });
  console.log(`${id}: hold ${answer.hold} (version ${answer.version})`);
}

async function main([verb, id, more, ...rest]: string[]): Promise<void> {
  if (id === undefined || rest.length > 0) throw new Refused(USAGE);
  // TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_PROFILE, … as every Temporal tool reads them.
  const { connectionOptions, namespace } = loadClientConnectConfig();
  const connection = await Connection.connect(connectionOptions);
  const client = new Client({ connection, namespace });
  try {
    if (verb === 'start' && more !== undefined) await start(client, id, more);
    else if (verb === 'watch' && more === undefined) await watch(client, id);
    else if (verb === 'pause') await tell(client, id, 'pause', { reason: more ?? '' });
    else if (verb === 'resume' && more === undefined) await tell(client, id, 'resume', {});
    else throw new Refused(USAGE);
  } finally {
    await connection.close();
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const told = error instanceof WorkflowUpdateFailedError ? error.cause : error;
  console.error(`campaign: ${told instanceof Error ? told.message : String(told)}`);
  process.exitCode = 1;
}
