/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h - the sub-commands of gaitd. Each lies in its cmd_NAME.c, answers --help with an example, and returns the exit
 * status: 0 done, 1 failed (a text on stderr says why), 2 the command line is wrong. */
#ifndef GAIT_CMD_H
#define GAIT_CMD_H

int cmd_check(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_gen(int argc, char **argv);
int cmd_label(int argc, char **argv);
int cmd_model(int argc, char **argv);
int cmd_options(int argc, char **argv);
int cmd_retrain(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_state(int argc, char **argv);
int cmd_tail(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_user(int argc, char **argv);

#endif
