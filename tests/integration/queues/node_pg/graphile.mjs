// graphile-worker: adds jobs, and runs workers that take one job and hold it until they are told to finish.
import pg from 'pg'
import { serve } from './serve.mjs'

const [packageName, connectionString, schema] = process.argv.slice(2)
const { makeWorkerUtils, run, Logger } = await import(packageName)
const logger = new Logger(() => () => {})
const held = new Map()
// What a dead worker has locked is looked for at the start, and not some minutes later.
const preset = { worker: { minResetLockedInterval: 50, maxResetLockedInterval: 100 } }
// Of our own, for a worker that stops would end its own pool before it has written down that its job is done.
const pgPool = new pg.Pool({ connectionString })

serve({
  async migrate () {
    const utils = await makeWorkerUtils({ pgPool, schema, logger })
    await utils.migrate()
    await utils.release()
  },
  async add ({ task, count = 1, spec = {} }) {
    const utils = await makeWorkerUtils({ pgPool, schema, logger })
    if (spec.delayS) spec.runAt = new Date(Date.now() + 1000 * spec.delayS)
    for (let added = 0; added < count; added++) await utils.addJob(task, {}, spec)
    await utils.release()
  },
  start ({ tasks, concurrentJobs = 1 }) {
    return new Promise((resolve, reject) => {
      const ids = []
      const handler = (payload, helpers) => new Promise(finish => {
        held.set(helpers.job.id, { finish, running })
        ids.push(helpers.job.id)
        if (ids.length === concurrentJobs) resolve(ids)
      })
      const taskList = Object.fromEntries(tasks.map(task => [task, handler]))
      const running = run({
        pgPool, preset, schema, logger, taskList, concurrency: concurrentJobs, pollInterval: 100, noHandleSignals: true
      })
      running.catch(reject)
    })
  },
  async finish ({ job }) {
    const { finish, running } = held.get(job)
    const runner = await running
    runner.events.once('pool:gracefulShutdown', finish) // from then on it takes no other job, and waits for this one
    await runner.stop()
  }
})
