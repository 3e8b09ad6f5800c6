#ifndef NAME_API
#define NAME_API static inline
#endif
/* Where constant data lies in a memory of its own (AVR), define NAME_IN_FLASH as PROGMEM and
   NAME_READ8, NAME_READ16, NAME_READ32, NAME_READ_FACTOR and NAME_LOAD_STAGE as what reads from there. */
#ifndef NAME_IN_FLASH
#define NAME_IN_FLASH
#endif
#ifndef NAME_READ8
#define NAME_READ8(place) (*(place))
#define NAME_READ16(place) (*(place))
#define NAME_READ32(place) (*(place))
#define NAME_READ_FACTOR(place) (*(place))
#define NAME_LOAD_STAGE(place)
#endif


/* Shifts of negative numbers must round down, as all compilers in use do. */
typedef char NAME_shifts_round_down[(-1 >> 1) == -1 ? 1 : -1];

static uint8_t NAME_arena[NAME_ARENA_BYTES];

