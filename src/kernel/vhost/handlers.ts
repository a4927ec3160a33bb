import type { CallHandler } from '../../bits/answer.ts'
import { deviceHandlers } from './device-handlers.ts'
import { messageHandlers } from './message-handlers.ts'
import { queueHandlers } from './queue-handlers.ts'
import type { Vhost } from './vhost.ts'

/** All calls that vhost answers. */
export const vhostHandlers = (vhost: Vhost): CallHandler[] => [
  ...deviceHandlers(vhost),
  ...queueHandlers(vhost),
  ...messageHandlers(vhost),
]
