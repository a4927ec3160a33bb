/** What a back end has done since it started, over all its connections. */
export class BackEndCounts {
  /** Connections. */
  sessions = 0
  /** Ranges reached through the IOTLB. */
  hits = 0
  misses = 0
  /** Misses that the front end had no translation for. */
  unanswered = 0
  updates = 0
  /** Maps that made room for others. */
  evictions = 0
  invalidations = 0
  /** Accesses that a map did not allow, or that led outside of memory. */
  refusals = 0
  /** Requests of the disk, and bytes that they moved. */
  requests = 0
  bytes = 0
}
