import { columns, figure } from './table.ts'

/** Who serves the disk, and whether its addresses go through the vIOMMU. */
export interface DiskSide {
  readonly by: 'vhost-user' | 'qemu'
  readonly isTranslated: boolean
}

export const DISK_SIDES: readonly DiskSide[] = [
  { by: 'vhost-user', isTranslated: true },
  { by: 'qemu', isTranslated: true },
  { by: 'vhost-user', isTranslated: false },
  { by: 'qemu', isTranslated: false },
]

/** What a guest measured of one load: requests a second. */
export interface DiskFigure {
  /** `read 4096 x1`: the way, the bytes of a request, and how many are made at a time. */
  readonly load: string
  readonly bytes: number
  readonly rate: number
}

const MEASURED = /^bench (read|write) bytes=(\d+) processes=(\d+) requests=(\d+) seconds=([\d.]+) /

/** The figures among what a guest says (peers/guests/init.sh). */
export function diskFigures(marks: readonly string[]): DiskFigure[] {
  return marks.flatMap((mark) => {
    const [, way, bytes, processes, requests, seconds] = MEASURED.exec(mark) ?? []
    if (way === undefined) return []
    return [
      {
        load: `${way} ${bytesText(Number(bytes))} x${processes}`,
        bytes: Number(bytes),
        rate: Number(requests) / Number(seconds),
      },
    ]
  })
}

const bytesText = (bytes: number): string =>
  bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 1024} KiB`

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const [low = Number.NaN, high = Number.NaN] = [sorted[(sorted.length - 1) >> 1], sorted[middle]]
  return (low + high) / 2
}

const HEAD = ['load', 'IOMMU', 'back end', 'MB/s', "QEMU's", 'MB/s', 'ratio (min..max)']
const ALIGN = ['left', 'left', 'right', 'right', 'right', 'right', 'left'] as const

/**
 * Requests a second of both sides, and their ratio: the median of rounds, each of which has run on every side.
 *
 * @param rounds for each round, the figures of every side in the order of `DISK_SIDES`
 */
export function diskTable(rounds: readonly (readonly DiskFigure[][])[]): string[] {
  const rows: string[][] = []
  for (const [index, { load, bytes }] of (rounds[0]?.[0] ?? []).entries()) {
    for (const isTranslated of [true, false]) {
      const ratesOf = (by: DiskSide['by']) => {
        const side = DISK_SIDES.findIndex((s) => s.by === by && s.isTranslated === isTranslated)
        return rounds.map((round) => round[side]?.[index]?.rate ?? Number.NaN)
      }
      const [ours, theirs] = [ratesOf('vhost-user'), ratesOf('qemu')]
      const ratios = ours.map((rate, round) => rate / (theirs[round] ?? Number.NaN))
      const [our, their] = [median(ours), median(theirs)]
      rows.push([
        load,
        isTranslated ? 'yes' : 'no',
        our.toFixed(0),
        figure((our * bytes) / 1e6),
        their.toFixed(0),
        figure((their * bytes) / 1e6),
        `${figure(median(ratios))} (${figure(Math.min(...ratios))}..${figure(Math.max(...ratios))})`,
      ])
    }
  }
  return columns(HEAD, rows, ALIGN)
}
