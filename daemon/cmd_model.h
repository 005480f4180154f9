/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_model.h - the parts of `gaitd model` that have a file of their own. argv[0] is the part's name; the rest is as in
 * cmd.h. */
#ifndef GAIT_CMD_MODEL_H
#define GAIT_CMD_MODEL_H

int cmd_model_import(int argc, char **argv);
int cmd_model_export(int argc, char **argv);
int cmd_model_install(int argc, char **argv); /* install, rollback and challenge */

#endif
