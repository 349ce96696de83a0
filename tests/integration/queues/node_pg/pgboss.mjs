// pg-boss: makes queues, sends jobs, fetches one at a time and completes it.
import { serve } from './serve.mjs'

const [packageName, connectionString, schema] = process.argv.slice(2)
const module = await import(packageName)
const PgBoss = module.PgBoss ?? module.default
const boss = new PgBoss({ connectionString, schema, supervise: false, schedule: false, max: 2 })
boss.on('error', error => console.error(error))

serve({
  async start () { await boss.start() },
  async stop () { await boss.stop({ graceful: false }) },
  async createQueue ({ name, options = {} }) { await boss.createQueue(name, options) },
  async send ({ name, count = 1, options = {} }) {
    const ids = []
    for (let sent = 0; sent < count; sent++) ids.push(await boss.send(name, {}, options))
    return ids
  },
  async fetch ({ name, options = {} }) { return (await boss.fetch(name, options)).map(job => job.id) },
  async complete ({ name, job }) { await boss.complete(name, job) },
  async fail ({ name, job }) { await boss.fail(name, job) },
  async supervise ({ name }) { await boss.supervise(name) }
})
