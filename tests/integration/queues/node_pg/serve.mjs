// Reads one request a line ({"id", "op", ...}) and answers each with a line ({"id", "result"} or {"id", "error"}).
import { createInterface } from 'node:readline'

export function serve (operations) {
  const answer = message => process.stdout.write(JSON.stringify(message) + '\n')
  createInterface({ input: process.stdin })
    .on('line', async line => {
      const { id, op, ...request } = JSON.parse(line)
      try {
        answer({ id, result: (await operations[op](request)) ?? null })
      } catch (error) {
        answer({ id, error: String(error.stack ?? error) })
      }
    })
    .on('close', () => process.exit(0))
}
