import { describe, expect, it } from 'vitest'
import { FLUSH_SCOPE } from '../../../src/trace/event-codes.ts'
import { NONE, PASID, SvmWorld } from './svm-world.ts'

const world = () => new SvmWorld({ rules: ['dead-page-table', 'mm-kept-alive', 'mm-lifetime'] })

/** The process ends as it should, up to where its page tables are given back. */
function exits(w: SvmWorld) {
  w.users(0, 2, 'exit')
  w.notify('release')
  w.entry(0)
}

describe('an address space that ends', () => {
  it('in order: the notifier, the entry, the tables, the unbinding', () => {
    const w = world()
    w.bound()
    exits(w)
    w.mmTable(0x210, 1, 0)
    w.binds(0)
    w.pasid(0)
    w.notify('unregister')
    w.users(0, 1, 'unregister')
    w.mmTable(0x200, 4, 0)
    w.users(0, 0, 'drop')
    expect(w.found()).toEqual([])
  })

  it('with its entry still there is a dead page table, told once with the first page', () => {
    const w = world()
    w.bound()
    const entry = w.entry(1)
    w.users(0, 2, 'exit')
    w.notify('release')
    const first = w.mmTable(0x210, 1, 0)
    w.mmTable(0x211, 2, 0)
    const [finding, ...more] = w.found()
    expect([more, finding?.rule, finding?.times]).toEqual([[], 'dead-page-table', 2])
    expect(finding?.message).toBe(
      'the page table of P at 0x210000 is given back while the entry of PASID 0x5 leads there',
    )
    expect(finding?.because.map((e) => e.seq)).toEqual([entry, entry + 1, first])
  })

  it('while it lives a table may be given back, but not the first one', () => {
    const w = world()
    w.bound()
    w.mmTable(0x210, 1, 0)
    expect(w.found()).toEqual([])
    const other = world()
    other.bound()
    other.notify('release')
    other.mmTable(0x200, 4, 0)
    expect(other.rules()).toEqual(['dead-page-table'])
  })

  it('another address space, and one that is not bound, has nothing to do with it', () => {
    const w = world()
    w.bound()
    w.users(1, 1, 'fork', 'Q')
    w.users(0, 1, 'exit', 'Q')
    w.mmTable(0x300, 4, 0, 'Q')
    w.users(0, 0, 'drop', 'Q')
    expect(w.found()).toEqual([])
  })

  it('an entry that is written for one that has ended', () => {
    const w = world()
    w.bound()
    exits(w)
    w.entry(1)
    expect(w.rules()).toEqual(['dead-page-table'])
  })

  it('its structure may not be freed below an entry', () => {
    const w = world()
    w.bound()
    w.users(0, 2, 'exit')
    w.notify('release')
    w.users(0, 0, 'drop')
    expect(w.messages('dead-page-table')).toEqual([
      'P is freed while the entry of PASID 0x5 leads to its page tables',
    ])
  })

  it('the entry of a PASID of the kernel has no process', () => {
    const w = world()
    w.entry(1, { mm: '' })
    w.users(0, 1, 'exit', '')
    w.mmTable(0x200, 4, 0, '')
    expect(w.rules()).toEqual([])
  })
})

describe('an entry that a unit has read', () => {
  /** The device uses its PASID, the process ends; `flushes` between the notifier and the page tables. */
  function ends(flushes: (w: SvmWorld) => void) {
    const w = world()
    w.bound()
    w.pasidEntry(PASID, 0x20_0001n)
    exits(w)
    flushes(w)
    w.mmTable(0x210, 1, 0)
    return w
  }

  it('leads to page tables that are given back', () => {
    const w = ends(() => {})
    expect(w.messages('dead-page-table')).toEqual([
      'the page table of P at 0x210000 is given back while vtd still remembers the entry of PASID 0x5, which leads there',
    ])
  })

  it.each([
    ['its PASID', { pasid: PASID }, true, []],
    ['its PASID, and nobody waits', { pasid: PASID }, false, ['dead-page-table']],
    ['another PASID', { pasid: 6 }, true, ['dead-page-table']],
    ['its domain', { pasid: NONE }, true, []],
    ['another domain', { pasid: PASID, domain: 6 }, true, ['dead-page-table']],
    ['all domains', { pasid: NONE, domain: NONE }, true, []],
  ])('is flushed with %s', (_, what, waits, rules) => {
    const w = ends((world) => {
      world.flush(FLUSH_SCOPE.PASID_CACHE, what)
      if (waits) world.wait()
    })
    expect(w.rules()).toEqual(rules)
  })

  it('is not flushed with translations', () => {
    const w = ends((world) => {
      world.flush(FLUSH_SCOPE.PASID, { pasid: PASID })
      world.wait()
    })
    expect(w.rules()).toEqual(['dead-page-table'])
  })

  it('and found absent since leads nowhere', () => {
    const w = ends((world) => world.pasidEntry(PASID, 0n, { fault: 0x5b }))
    expect(w.found()).toEqual([])
  })
})

describe('a user that is taken for a page request', () => {
  const handles = (gives: boolean) => {
    const w = world()
    w.bound()
    const step = w.step('prq')
    w.users(2, 2, 'mmget_not_zero', 'P', step)
    if (gives) w.users(1, 2, 'mmput', 'P', w.step('prq'))
    const answered = w.decodes({ cause: w.step('prq') })
    return { w, answered }
  }

  it('is given back before it is answered', () => {
    expect(handles(true).w.found()).toEqual([])
  })

  it('and kept is found with the answer', () => {
    const { w, answered } = handles(false)
    expect(w.messages('mm-lifetime')).toEqual([
      'a page request is answered, and keeps a user of P, which was taken for it: nobody gives it back',
    ])
    expect(w.found()[0]?.because.at(-1)?.seq).toBe(answered)
  })

  it('is not that of another task', () => {
    const w = world()
    w.bound()
    w.users(2, 2, 'mmget_not_zero', 'P', w.step('bind'))
    w.decodes({ cause: w.step('prq') })
    expect(w.found()).toEqual([])
  })
})

describe('users and the structure of an address space', () => {
  const first = (w: SvmWorld) => w.users(1, 1, 'fork')
  it.each([
    ['below zero', (w: SvmWorld) => [w.users(-1, 1)], 'P is given back more often than it was taken'],
    [
      'again from zero',
      (w: SvmWorld) => [w.users(0, 1, 'exit'), w.users(1, 1)],
      'P gets a user again, though it had none any more',
    ],
    [
      'without a structure',
      (w: SvmWorld) => [w.users(1, 0, 'drop')],
      'the structure of P is freed while the address space is used',
    ],
    [
      'after the structure',
      (w: SvmWorld) => [w.users(0, 0, 'drop'), w.users(0, 1, 'grab')],
      'the structure of P is used after it was freed',
    ],
  ])('%s', (_, then, message) => {
    const w = world()
    first(w)
    const last = then(w).at(-1)
    expect(w.messages('mm-lifetime')).toEqual([message])
    expect(w.found()[0]?.because.at(-1)?.seq).toBe(last)
  })

  it('come and go', () => {
    const w = world()
    w.users(1, 1, 'fork')
    w.users(2, 1, 'fault')
    w.users(1, 1, 'fault done')
    w.users(0, 1, 'exit')
    w.users(0, 0, 'drop')
    expect(w.found()).toEqual([])
  })
})

describe('a notifier', () => {
  it('that is told of the end twice', () => {
    const w = world()
    w.bound()
    exits(w)
    w.notify('release')
    expect(w.messages('mm-lifetime')).toEqual(['svm of P is told of the end twice'])
  })

  it('that is told when the tables are gone already', () => {
    const w = world()
    w.bound()
    w.users(0, 2, 'exit')
    w.entry(0)
    const table = w.mmTable(0x210, 1, 0)
    w.notify('release')
    const [finding] = w.found()
    expect(w.rules()).toEqual(['mm-lifetime'])
    expect(finding?.because.at(-1)?.seq).toBe(table)
  })

  it('that is registered again is told again', () => {
    const w = world()
    w.bound()
    w.notify('release')
    w.notify('unregister')
    w.notify('register')
    w.notify('release')
    expect(w.found()).toEqual([])
  })

  it('that comes when nobody uses the address space any more', () => {
    const w = world()
    w.users(0, 1, 'exit')
    w.notify('register')
    expect(w.rules()).toEqual(['mm-lifetime'])
  })

  it('that leaves is told as well, whatever the end of the address space does meanwhile', () => {
    const w = world()
    w.bound()
    w.users(0, 2, 'exit')
    w.notify('release')
    w.entry(0)
    w.notify('unregister')
    w.notify('release')
    w.mmTable(0x210, 1, 0)
    expect(w.found()).toEqual([])
  })

  it('that has gone need not be told', () => {
    const w = world()
    w.bound()
    w.notify('unregister')
    w.entry(0)
    w.users(0, 1, 'exit')
    w.mmTable(0x200, 4, 0)
    expect(w.found()).toEqual([])
  })
})

describe('a process that has ended', () => {
  it('and whose address space a binding still uses', () => {
    const w = world()
    w.bound()
    w.users(2, 2, 'bind')
    const exit = w.users(1, 2, 'exit')
    const [finding] = w.found()
    expect(w.rules()).toEqual(['mm-kept-alive'])
    expect(finding?.because.at(-1)?.seq).toBe(exit)
    expect(finding?.message).toContain('P still has 1 user(s)')
  })

  it.each([
    ['somebody else has it for a while', (w: SvmWorld) => w.users(0, 2, 'fault done')],
    ['nobody is bound to it', (w: SvmWorld) => w.binds(0)],
  ])('is no finding where %s', (_, then) => {
    const w = world()
    w.bound()
    w.users(1, 2, 'exit')
    then(w)
    expect(w.found()).toEqual([])
  })

  it('is none that still runs', () => {
    const w = world()
    w.bound()
    w.users(2, 2, 'fault')
    expect(w.found()).toEqual([])
  })
})
