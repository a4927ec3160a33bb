# Firmware for QEMU's pseries machine (-bios) that runs hypercalls left for it in memory, and nothing else.
#
# Loaded at 0, entered at 0x100: 64 bits, big endian, real mode, no hypervisor privilege. Assembled by setup.sh.
#
# Mailbox at 1 MiB, every word 8 bytes, big endian:
#   +0x0     how many records there are; written last, which starts them. 0 again once they have run.
#   +0x8     batches that have run since the start
#   +0x1000  records of 128 bytes:
#              +0x00  r3 to r10 of the hypercall
#              +0x40  r3 and r4 behind it
#              +0x50  48 bytes that are left alone: room for the arguments of an RTAS call

        .set    MAILBOX_HIGH, 0x10
        .set    BATCHES, 0x8
        .set    RECORDS, 0x1000
        .set    RECORD_BYTES, 128
        .set    AFTER, 0x40
        .set    H_CEDE, 0xe0
        # Ticks until the processor looks again, 2^24: 32 ms of the machine's own time, which jumps while it waits.
        .set    TICKS_HIGH, 0x100

        .text
        .org    0x100
        lis     31, MAILBOX_HIGH
        li      30, 0
wait:   ld      29, 0(31)
        cmpdi   29, 0
        bne     batch
        lis     3, TICKS_HIGH
        mtspr   22, 3                   # decrementer
        li      3, H_CEDE               # also allows interrupts
        sc      1
        b       wait

batch:  addi    28, 31, RECORDS
record: ld      3, 0x00(28)
        ld      4, 0x08(28)
        ld      5, 0x10(28)
        ld      6, 0x18(28)
        ld      7, 0x20(28)
        ld      8, 0x28(28)
        ld      9, 0x30(28)
        ld      10, 0x38(28)
        sc      1
        std     3, AFTER(28)
        std     4, AFTER + 8(28)
        addi    28, 28, RECORD_BYTES
        addi    29, 29, -1
        cmpdi   29, 0
        bne     record
        std     29, 0(31)
        addi    30, 30, 1
        std     30, BATCHES(31)
        b       wait

# Interrupts only end a wait: go on with interrupts disallowed (bit 0x8000 of the saved machine state).
        .macro  resume
        mfspr   26, 27
        li      25, 0
        ori     25, 25, 0x8000
        andc    26, 26, 25
        mtspr   27, 26
        rfid
        .endm

        .org    0x500                   # external
        resume
        .org    0x900                   # decrementer: it is far from the next one
        lis     25, 0x7fff
        mtspr   22, 25
        resume
        .org    0x1000
