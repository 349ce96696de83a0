// Produces to and consumes from a BullMQ queue, for the tests.
//
//   node bullmq.cjs PORT DATABASE QUEUE add COUNT DELAY_MS [PRIORITY]
//   node bullmq.cjs PORT DATABASE QUEUE pause | resume | concurrency N | limit MAX
//   node bullmq.cjs PORT DATABASE QUEUE consume       one job, held until the test says so (see ../work.py)
const { Queue, Worker } = require("bullmq");
const Redis = require("ioredis");

const [port, database, name, action, ...rest] = process.argv.slice(2);
const numbers = rest.map(Number);
const connection = { host: "127.0.0.1", port: Number(port), db: Number(database), maxRetriesPerRequest: null };

async function hold(job) {
  const control = new Redis(process.env.TEST_CONTROL_URL);
  await control.rpush(process.env.TEST_BEGUN_KEY, job.id);
  await control.blpop(process.env.TEST_RELEASE_KEY, 60);
  control.disconnect();
}

async function consume() {
  const worker = new Worker(
    name,
    async (job) => {
      worker.close(); // takes no job after this one
      await hold(job);
    },
    {
      connection,
      concurrency: 1,
      name: `worker of ${process.env.TEST_BEGUN_KEY}`,
      stalledInterval: 300, // ms; a job is stalled at the second look
    },
  );
  await new Promise((resolve) => worker.once("closed", resolve));
}

async function main() {
  if (action === "consume") return consume();
  const queue = new Queue(name, { connection });
  if (action === "add") {
    const [count, delay, priority] = numbers;
    for (let number = 0; number < count; number += 1) await queue.add("hold", {}, { delay, priority });
  }
  if (action === "pause") await queue.pause();
  if (action === "resume") await queue.resume();
  if (action === "concurrency") await queue.setGlobalConcurrency(numbers[0]);
  if (action === "limit") await queue.setGlobalRateLimit(numbers[0], 60000);
  return queue.close();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
