/* SPDX-License-Identifier: Apache-2.0 */
/* arguments.h - getopt_long(3) for the sub-commands. <getopt.h> has a `struct option` of its own; here it is called
 * `struct long_option`, so that a file can use both. Include this instead of <getopt.h>. */
#ifndef GAIT_ARGUMENTS_H
#define GAIT_ARGUMENTS_H

#define option long_option
#include <getopt.h>
#undef option

#endif
