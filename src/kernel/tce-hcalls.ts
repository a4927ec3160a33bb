/** Numbers of the hypercalls for TCEs, which QEMU and KVM both answer. (LoPAR, hcall tables; Linux v6.1 arch/powerpc/include/asm/hvcall.h) */
export const TCE_HCALL = {
  H_PUT_TCE: 0x20,
  H_GET_TCE: 0x1c,
  H_STUFF_TCE: 0x138,
  H_PUT_TCE_INDIRECT: 0x13c,
} as const

/** The same as a guest has them in r3. */
export const TCE_HCALL_R3 = {
  H_PUT_TCE: BigInt(TCE_HCALL.H_PUT_TCE),
  H_GET_TCE: BigInt(TCE_HCALL.H_GET_TCE),
  H_STUFF_TCE: BigInt(TCE_HCALL.H_STUFF_TCE),
  H_PUT_TCE_INDIRECT: BigInt(TCE_HCALL.H_PUT_TCE_INDIRECT),
} as const
