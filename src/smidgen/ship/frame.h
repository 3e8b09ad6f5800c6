#ifndef NAME_API
#define NAME_API static inline
#endif
/* Constant data may lie in a memory of its own: then define NAME_IN_FLASH as what puts it there, and
   the others as what reads it. On AVR this is done here. */
#if defined(__AVR__) && !defined(NAME_IN_FLASH)
#include <avr/pgmspace.h>
#define NAME_IN_FLASH PROGMEM
#define NAME_READ8(place) ((int8_t)pgm_read_byte(place))
#define NAME_READ16(place) ((int16_t)pgm_read_word(place))
#define NAME_READ32(place) ((int32_t)pgm_read_dword(place))
#define NAME_READ_FACTOR(place) \
    (sizeof(*(place)) == 1 ? (int16_t)pgm_read_byte(place) : (int16_t)pgm_read_word(place))
#define NAME_STAGE(place) ((const NAME_stage *)memcpy_P(&NAME_now, place, sizeof NAME_now))
#define NAME_COPIES_STAGES
#endif
#ifndef NAME_IN_FLASH
#define NAME_IN_FLASH
#define NAME_READ8(place) (*(place))
#define NAME_READ16(place) (*(place))
#define NAME_READ32(place) (*(place))
#define NAME_READ_FACTOR(place) (*(place))
#define NAME_STAGE(place) (place)
#endif

/* For size gcc must not load ahead of loops what the small form reads in them: that costs 170 bytes
   of flash and 56 of stack on a Cortex-M0, for registers that there are not. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE_SIZE__)
#define NAME_COMPACT __attribute__((optimize("no-tree-loop-im", "no-move-loop-invariants")))
#else
#define NAME_COMPACT
#endif

/* Shifts of negative numbers must round down, as all compilers in use do. */
typedef char NAME_shifts_round_down[(-1 >> 1) == -1 ? 1 : -1];

static uint8_t NAME_arena[NAME_ARENA_BYTES];

