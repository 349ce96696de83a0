// A BullMQ queue with a worker for each job: it is reserved, runs that one job, and is given back.
//
// Type each in a terminal of its own, in this folder, with a Redis on this machine and `npm install bullmq ioredis`:
//
//     nullworker engine --set endpoint.null-local.workergroup.0.consumer='node bullmq_worker.cjs'
//     nullworker dispatch --endpoint null-local --queue 'bullmq://localhost/0?queue=gpu'
//     node bullmq_worker.cjs 5
// BullMQ renews its hold on a job as long as the event loop is free: so the job is a process of its own.
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { Queue, Worker } = require("bullmq");

const connection = { url: process.env.REDIS_URL ?? "redis://localhost:6379/0", maxRetriesPerRequest: null };

function consume() {
  const name = process.env.NULL_SESSION_ID; // it tells the dispatcher which job the reservation is for
  const worker = new Worker("gpu", run, { connection, concurrency: 1, name });
  const nothingLeftToTake = setTimeout(() => worker.close(), 10_000);

  async function run(job) {
    clearTimeout(nothingLeftToTake);
    worker.close(); // ends when this job has ended, and takes none after it
    const { frame, seconds } = job.data;
    const yours = ["sh", "-c", 'sleep "$1"; echo "rendered $0"', frame, seconds];
    const command = spawn(yours[0], yours.slice(1), { stdio: "inherit" });
    const [code] = await once(command, "exit");
    if (code !== 0) throw new Error(`the command ended with ${code}`);
  }
}

async function produce(count) {
  const queue = new Queue("gpu", { connection });
  for (let number = 0; number < count; number++) {
    await queue.add("render", { frame: `frame-${number}`, seconds: 1 }, { attempts: 3 });
  }
  await queue.close();
}

if ("NULL_SESSION_ID" in process.env) consume();
else produce(Number(process.argv[2]));
